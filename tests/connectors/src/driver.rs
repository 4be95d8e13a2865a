//! The process that drives the system. It prints a line of JSON after each step, with the step's
//! name and what names it got from the system, and waits for a line before it goes on. It ends
//! when nobody listens any more.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde_json::Value as Json;

/// A running driver. Killed on drop.
pub struct Driver {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    began: SystemTime,
}

/// What the driver tells after a step.
#[derive(Clone, Debug)]
pub struct Told {
    /// Name of the step.
    pub name: String,
    /// Numbers and ids that the system gave, by name.
    pub vars: BTreeMap<String, String>,
}

impl Driver {
    /// Starts a command with further variables in its environment.
    pub fn start(command: &[String], environment: &[(String, String)]) -> Result<Self> {
        let (program, arguments) = command.split_first().context("a driver")?;
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let input = child.stdin.take().context("the driver's input")?;
        let output = BufReader::new(child.stdout.take().context("the driver's output")?);
        Ok(Self { child, input, output, began: SystemTime::now() })
    }

    /// When the step that is reported now began.
    pub fn step_began(&self) -> SystemTime {
        self.began
    }

    /// Waits for the next step; `None` when the driver has ended well.
    pub fn next_step(&mut self) -> Result<Option<Told>> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return match status.success() {
                true => Ok(None),
                false => bail!("the driver failed: {status}"),
            };
        }
        let told: Json = serde_json::from_str(&line).context("a line of the driver")?;
        let vars = told["vars"].as_object().context("the driver's `vars`")?;
        let text = |value: &Json| value.as_str().unwrap_or_default().to_string();
        Ok(Some(Told {
            name: text(&told["step"]),
            vars: vars.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        }))
    }

    /// Lets it take the next step.
    pub fn go_on(&mut self) -> Result<()> {
        self.began = SystemTime::now();
        writeln!(self.input, "go on")?;
        Ok(self.input.flush()?)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
