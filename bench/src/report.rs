//! Medians of paired runs, as a table and as JSON lines.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

/// One comparison with one peer.
#[derive(Serialize)]
pub struct Row {
    /// Name of the benchmark.
    pub bench: String,
    /// What it is compared with.
    pub peer: String,
    /// What is measured, with its unit.
    pub metric: String,
    /// Crossdock's median.
    pub ours: f64,
    /// The peer's median.
    pub theirs: f64,
    /// Median of the ratios pair by pair; above 1 is better than the peer.
    pub ratio: f64,
    /// Number of pairs.
    pub runs: usize,
}

impl Row {
    /// From pairs of a figure of which more is better.
    pub fn more_is_better(bench: &str, peer: &str, metric: &str, pairs: &[(f64, f64)]) -> Self {
        let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
        Self::new(bench, peer, metric, pairs, &ratios)
    }

    /// From pairs of a figure of which less is better.
    pub fn less_is_better(bench: &str, peer: &str, metric: &str, pairs: &[(f64, f64)]) -> Self {
        let ratios: Vec<f64> = pairs.iter().map(|(ours, theirs)| theirs / ours).collect();
        Self::new(bench, peer, metric, pairs, &ratios)
    }

    fn new(bench: &str, peer: &str, metric: &str, pairs: &[(f64, f64)], ratios: &[f64]) -> Self {
        Self {
            bench: bench.to_string(),
            peer: peer.to_string(),
            metric: metric.to_string(),
            ours: median(pairs.iter().map(|p| p.0)),
            theirs: median(pairs.iter().map(|p| p.1)),
            ratio: median(ratios.iter().copied()),
            runs: pairs.len(),
        }
    }
}

/// Of an even number of values, the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    (lower + upper) / 2.0
}

/// Where cargo builds, and results go.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from)
}

/// Prints the table and writes `target/bench/NAME.jsonl`.
pub fn publish(name: &str, rows: &[Row]) -> Result<()> {
    println!("{:<44} {:<32} {:>14} {:>14} {:>7}", "metric", "peer", "crossdock", "peer", "ratio");
    for row in rows {
        println!(
            "{:<44} {:<32} {:>14.2} {:>14.2} {:>7.2}",
            row.metric, row.peer, row.ours, row.theirs, row.ratio
        );
    }
    let folder = target_dir().join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.jsonl"));
    let mut file = fs::File::create(&path)?;
    for row in rows {
        writeln!(file, "{}", serde_json::to_string(row)?)?;
    }
    println!("written to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
    }
}
