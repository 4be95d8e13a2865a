//! What commands print. The one place that writes to standard output, so that `crossdock … | head`
//! ends as quietly as any other program whose reader has gone.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Prints a line, as `println!` does. Where nobody reads any more, the process ends: what a command
/// has begun is committed or not, as if it had been interrupted.
macro_rules! say {
    () => { $crate::output::line(format_args!("")) };
    ($($words:tt)*) => { $crate::output::line(format_args!($($words)*)) };
}

/// Prints one line.
pub fn line(words: Arguments<'_>) {
    let mut out = io::stdout().lock();
    let written = out.write_fmt(words).and_then(|()| out.write_all(b"\n"));
    if let Err(error) = written {
        ended(&error);
    }
}

/// Says that nothing can be printed any more, unless the reader knows it best, and ends.
fn ended(error: &io::Error) -> ! {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    eprintln!("error: standard output cannot be written: {error}");
    std::process::exit(1);
}
