//! A child process that cannot outlive its parent.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};

/// Starts `"$@"` after the first three arguments, writes its pid to `$2`, and stops it with signal
/// `$1` (after 20 s with KILL) when standard input closes, which happens when the parent is gone.
/// Then removes folder `$3`, if one is given and has no file `keep`.
const WATCHDOG: &str = r#"
signal=$1; pidfile=$2; folder=$3; shift 3
"$@" </dev/null & pid=$!
echo "$pid" > "$pidfile"
cat >/dev/null
kill -s "$signal" "$pid" 2>/dev/null
n=0
while kill -0 "$pid" 2>/dev/null && [ $n -lt 200 ]; do sleep 0.1; n=$((n + 1)); done
kill -s KILL "$pid" 2>/dev/null
wait
[ -z "$folder" ] || [ -e "$folder/keep" ] || rm -rf "$folder"
"#;

/// A process under a watchdog.
pub struct Watched {
    watchdog: Child,
    pid: Pid,
}

impl Watched {
    /// Starts `command`. Output goes to `log`. `stop` is the signal that asks it to end. `folder`
    /// is removed once it has ended, also when the parent could not do so itself.
    pub fn start(
        command: &Command,
        stop: &str,
        work: &Path,
        log: &Path,
        folder: Option<&Path>,
    ) -> Result<Self> {
        let pid_file = work.join("watched.pid");
        let _ = fs::remove_file(&pid_file);
        let output = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(WATCHDOG).arg("watchdog").arg(stop).arg(&pid_file);
        shell.arg(folder.map_or("", |f| f.to_str().unwrap_or("")));
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            shell.current_dir(dir);
        }
        // A group of its own: Ctrl-C at the terminal is for the parent, which then stops us.
        shell.process_group(0);
        shell.stdin(Stdio::piped()).stdout(output.try_clone()?).stderr(output);
        let mut watchdog = shell.spawn().context("start sh")?;
        let mut pid = None;
        let written = wait_until(Duration::from_secs(10), || {
            pid = fs::read_to_string(&pid_file).ok().and_then(|t| t.trim().parse().ok());
            pid.is_some()
        });
        let Some(pid) = pid.filter(|_| written) else {
            let _ = watchdog.kill();
            bail!("{:?} did not start, see {}", command.get_program(), log.display());
        };
        Ok(Self { watchdog, pid: Pid::from_raw(pid) })
    }

    /// Process id of the server itself.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// True while the server itself runs.
    pub fn is_running(&self) -> bool {
        kill(self.pid, None).is_ok() && !is_zombie(self.pid.as_raw())
    }

    /// Sends a signal to the server itself, for example SIGKILL.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
    }

    /// For a server that was sent a signal and will be started again: waits until it has ended,
    /// and keeps its folder.
    pub fn detach(self, folder: &Path) {
        wait_until(Duration::from_secs(60), || !self.is_running());
        let keep = folder.join("keep");
        let _ = fs::write(&keep, "");
        drop(self);
        let _ = fs::remove_file(&keep);
    }

    /// Asks it to end and waits until it has.
    pub fn stop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

/// True while any process has `folder` as its working directory.
pub(crate) fn is_worked_in(folder: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().any(|p| fs::read_link(p.path().join("cwd")).is_ok_and(|cwd| cwd == folder))
}

/// A loopback TCP port that is free now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?.local_addr()?.port())
}

/// Waits until `condition` holds; false when it does not within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A new folder that the server's user may own, below the temporary folder.
pub(crate) fn work_folder(prefix: &str) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix(prefix).tempdir()?.keep();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// `program`, run as `user` when we are root.
pub(crate) fn command_as(user: &str, program: impl AsRef<Path>) -> Result<Command> {
    if !Uid::effective().is_root() {
        return Ok(Command::new(program.as_ref()));
    }
    if User::from_name(user)?.is_none() {
        bail!("there is no user {user}: install the database's package");
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    command.arg(program.as_ref());
    Ok(command)
}

/// Gives `path` to `user` when we are root.
pub(crate) fn give_to(user: &str, path: &Path) -> Result<()> {
    if Uid::effective().is_root() {
        let user = User::from_name(user)?.with_context(|| format!("there is no user {user}"))?;
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed; its errors are the error.
pub(crate) fn run(command: &mut Command, input: Option<&str>) -> Result<String> {
    use std::io::Write;
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let writer = child.stdin.take().zip(input.map(str::to_owned)).map(|(mut stdin, text)| {
        std::thread::spawn(move || {
            // A program that fails early closes its end; its exit status tells.
            let _ = stdin.write_all(text.as_bytes());
        })
    });
    let output = child.wait_with_output()?;
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_string())
}
