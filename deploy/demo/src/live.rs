//! What the terminal shows while the demo runs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::service::Status;

const REDRAW_EVERY: Duration = Duration::from_millis(500);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The workload's side of the picture.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Orders started.
    pub orders: u32,
    /// Orders under way.
    pub under_way: usize,
    /// Transactions committed.
    pub transactions: u64,
}

/// Draws on a terminal, or writes a line now and then where there is none.
pub struct View {
    terminal: bool,
    begun: Instant,
    last: Option<Instant>,
    drawn: usize,
}

impl Default for View {
    fn default() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { terminal, begun: Instant::now(), last: None, drawn: 0 }
    }
}

impl View {
    /// True when it is time to show something again.
    pub fn due(&self) -> bool {
        let every = if self.terminal { REDRAW_EVERY } else { LINE_EVERY };
        self.last.is_none_or(|last| last.elapsed() >= every)
    }

    /// Shows how things are. `states` is orders by fulfilment, from the store.
    pub fn show(&mut self, status: &Status, states: &[(String, u64)], work: Work) {
        self.last = Some(Instant::now());
        let seconds = self.begun.elapsed().as_secs();
        if self.terminal {
            let picture = picture(status, states, work, seconds);
            let mut out = String::new();
            if self.drawn > 0 {
                // Back to the first line of the last picture, and clear from there.
                out.push_str(&format!("\x1b[{}A\x1b[J", self.drawn));
            }
            out.push_str(&picture);
            self.drawn = picture.lines().count();
            print!("{out}");
        } else {
            println!("{}", line(status, states, work, seconds));
        }
        // A closed terminal is no reason to stop the demo.
        let _ = std::io::stdout().flush();
    }
}

fn picture(status: &Status, states: &[(String, u64)], work: Work, seconds: u64) -> String {
    let mut out = format!(
        "\n{seconds:>4} s   orders {} ({} under way)   transactions {}\n\n",
        work.orders, work.under_way, work.transactions
    );
    out.push_str("source     state       lag s   behind bytes   changes/s    changes\n");
    for source in &status.sources {
        out.push_str(&format!(
            "{:10} {:10} {:>6.1} {:>14} {:>11.0} {:>10}\n",
            source.name,
            source.state,
            source.lag_seconds,
            source.behind_bytes,
            source.events_per_second,
            source.events_total
        ));
    }
    out.push_str("\ntarget     state       pending   delivered\n");
    for target in &status.targets {
        out.push_str(&format!(
            "{:10} {:10} {:>8} {:>11}\n",
            target.name, target.state, target.pending, target.delivered
        ));
    }
    out.push_str("\norders   ");
    for (state, count) in states {
        out.push_str(&format!("  {state} {count}"));
    }
    out.push_str(&format!(
        "\nopen     {} exceptions, {} releases on hold     own writes recognised: {}\n",
        status.exceptions_open, status.holds, status.echo_dropped_total
    ));
    out
}

fn line(status: &Status, states: &[(String, u64)], work: Work, seconds: u64) -> String {
    let lag = status.sources.iter().map(|source| source.lag_seconds).fold(0.0, f64::max);
    let rate: f64 = status.sources.iter().map(|source| source.events_per_second).sum();
    let pending: u64 = status.targets.iter().map(|target| target.pending).sum();
    let states: Vec<String> =
        states.iter().map(|(state, count)| format!("{state} {count}")).collect();
    format!(
        "{seconds:>4} s  orders {} ({} under way), lag {lag:.1} s, {rate:.0} changes/s, \
         {pending} deliveries pending, {} exceptions, {} on hold | {}",
        work.orders,
        work.under_way,
        status.exceptions_open,
        status.holds,
        states.join(", ")
    )
}
