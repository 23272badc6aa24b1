//! Canonical lines in; each as the published `ExecutorEvent` writes it again, or why it is refused.

use std::io::{self, BufRead, BufWriter, Write};

use noetl_events::ExecutorEvent;

fn main() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        match serde_json::from_str::<ExecutorEvent>(&line?) {
            Ok(event) => writeln!(out, "{}", serde_json::to_string(&event)?)?,
            Err(error) => writeln!(out, "refused: {error}")?,
        }
    }
    out.flush()
}
