//! What an import reads: whole lines, until it is to end.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// How much is read at once.
const PIECE: usize = 128 * 1024;

/// A line that is longer comes in parts: it is no record.
const LONGEST: usize = 2 * 1024 * 1024;

/// A reader that ends between two lines when it is stopped, though the file or the pipe behind it may be silent.
pub(super) struct Source {
    pieces: mpsc::Receiver<io::Result<Vec<u8>>>,
    piece: io::Cursor<Vec<u8>>,
    runtime: Handle,
    stop: Stop,
}

/// Ends a [`Source`].
#[derive(Clone, Default)]
pub(super) struct Stop {
    stopped: CancellationToken,
    has_cut: Arc<AtomicBool>,
}

impl Stop {
    pub(super) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Whether there may be lines that were not read.
    pub(super) fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::Relaxed)
    }
}

impl Source {
    /// Begins to read. Its own reads block, so that no task may call them.
    pub(super) fn new(reader: impl Read + Send + 'static, stop: Stop) -> Self {
        let (sender, pieces) = mpsc::channel(2);
        // It may never return from a read.
        spawn_blocking(move || read(reader, &sender));
        Self { pieces, piece: io::Cursor::default(), runtime: Handle::current(), stop }
    }
}

impl Read for Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(bytes)?;
            if read > 0 || bytes.is_empty() {
                return Ok(read);
            }
            let next = self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = self.stop.stopped.cancelled() => {
                        self.stop.has_cut.store(true, Ordering::Relaxed);
                        None
                    }
                    piece = self.pieces.recv() => piece,
                }
            });
            match next {
                Some(piece) => self.piece = io::Cursor::new(piece?),
                None => return Ok(0),
            }
        }
    }
}

/// Hands over whole lines, and the last one as it is.
fn read(mut reader: impl Read, pieces: &mpsc::Sender<io::Result<Vec<u8>>>) {
    let (mut lines, mut buffer) = (Vec::new(), vec![0; PIECE]);
    loop {
        let read = match reader.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = pieces.blocking_send(Err(error));
                return;
            }
            Ok(0) => {
                let _ = pieces.blocking_send(Ok(lines));
                return;
            }
            Ok(read) => read,
        };
        let new = &buffer[..read];
        let feed = new.iter().rposition(|byte| *byte == b'\n');
        let whole = feed.map_or(if lines.len() > LONGEST { read } else { 0 }, |feed| feed + 1);
        if whole == 0 {
            lines.extend_from_slice(new);
            continue;
        }
        lines.extend_from_slice(&new[..whole]);
        let rest = new[whole..].to_vec();
        // Nobody reads it any more.
        if pieces.blocking_send(Ok(std::mem::replace(&mut lines, rest))).is_err() {
            return;
        }
    }
}
