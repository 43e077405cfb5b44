//! A store in a file that is replaced at each commit.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::{JoinHandle, spawn_blocking};
use watchkeeper::DynError;
use watchkeeper::report::{debug_as_text, one_line};
use watchkeeper::subscription::Cursor;

use super::{CommitStore, DeadLetter, DeadLetterChange, NewOutputs, OtherStage, StageName, Stored};
use crate::position::{StagePosition, UpstreamPosition};

/// The version of the format.
const FORMAT: u64 = 1;
/// How long a lock may be held by a commit of an aborted stage that is still being written.
const LOCK: Duration = Duration::from_secs(5);

/// Keeps what a stage has committed in a file, which each commit replaces as a whole.
///
/// # The file
///
/// Its first line is a JSON object, its second the CRC-32 (ISO-HDLC) of the bytes of the first line as 8 hexadecimal
/// digits; both lines end with a line feed. The object has the fields `watchkeeper_pipeline` (1, the format), `pipeline`,
/// `stage`, `position` (an object: upstream to position), `cursor`, `outputs`, `dead_letters`, `next_dead_letter`: see
/// [`Stored`].
///
/// Floating-point numbers must be finite: JSON has no other ones.
///
/// A commit writes `PATH.tmp`, syncs it, renames it to `PATH` and syncs the directory: it survives a crash of the process
/// and of the machine, as far as the disk keeps what it has synced. One commit takes about as long as three syncs. The
/// size is that of the outputs that no stage has consumed yet, and of the dead letters. Missing directories are made, and
/// are not synced in theirs.
///
/// `PATH.lock` is locked as long as the store lives, so that no other process and no other stage commits there. A start
/// waits up to 5 s for the lock.
///
/// Items and outputs are types with serde's traits; [`SourceEvent`](watchkeeper::per_source::SourceEvent) is none:
/// [`Upstream::map`](crate::Upstream::map) makes one of it.
///
/// # Errors
///
/// [`FileStoreError`], as the source of the errors of the pipeline.
#[derive(Debug)]
pub struct FileStore<T, O> {
    path: Arc<Path>,
    lock: Option<Arc<File>>,
    stage: Option<StageName>,
    stored: Stored<T, O>,
    /// A commit that is being written, also if its caller has dropped it.
    writing: Option<JoinHandle<Result<(), FileStoreError>>>,
}

impl<T, O> FileStore<T, O> {
    /// A store in the file at `path`. It is read, and locked, when the stage starts.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into().into(), lock: None, stage: None, stored: Stored::default(), writing: None }
    }
}

impl<T, O> FileStore<T, O> {
    /// Waits for a commit that its caller has dropped: it must not replace a later one.
    async fn written(&mut self) {
        if let Some(dropped) = &mut self.writing {
            // Its caller is gone, and the stage commits the same again.
            let _ = dropped.await;
            self.writing = None;
        }
    }
}

/// What was written, and what is read again.
#[derive(Serialize, Deserialize)]
struct Document<P, O, D> {
    watchkeeper_pipeline: u64,
    pipeline: Arc<str>,
    stage: Arc<str>,
    position: P,
    cursor: Option<String>,
    outputs: O,
    dead_letters: D,
    next_dead_letter: u64,
}

/// Whatever else the format has.
#[derive(Deserialize)]
struct Format {
    watchkeeper_pipeline: u64,
}

/// Whose file it is, whatever items it has.
#[derive(Deserialize)]
struct Head {
    pipeline: Arc<str>,
    stage: Arc<str>,
}

type Read<T, O> = Document<BTreeMap<String, UpstreamPosition>, Vec<Vec<O>>, Vec<DeadLetter<T>>>;

impl<T, O> CommitStore<T, O> for FileStore<T, O>
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    O: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    async fn load(&mut self, stage: &StageName) -> Result<Stored<T, O>, DynError> {
        self.written().await;
        let path = Arc::clone(&self.path);
        let lock = self.lock.take();
        let (lock, bytes) = blocking(move || {
            let lock = match lock {
                Some(lock) => lock,
                None => Arc::new(locked(&path)?),
            };
            match fs::read(&path) {
                Ok(bytes) => Ok((lock, Some(bytes))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((lock, None)),
                Err(source) => Err(FileStoreError::io(&path, "read it", source)),
            }
        })
        .await?;
        self.lock = Some(lock);
        self.stage = Some(stage.clone());
        self.stored = match bytes {
            Some(bytes) => read(&self.path, &bytes, stage)?,
            None => Stored::default(),
        };
        Ok(self.stored.clone())
    }

    async fn commit(
        &mut self,
        position: &StagePosition,
        outputs: NewOutputs<'_, O>,
        dead_letters: &[DeadLetterChange<T>],
    ) -> Result<(), DynError> {
        self.written().await;
        let Some((stage, lock)) = self.stage.as_ref().zip(self.lock.clone()) else {
            return Err(FileStoreError::NotLoaded { path: shown(&self.path) }.into());
        };
        // What was not written is not kept either.
        let mut stored = self.stored.clone();
        stored.apply(position, outputs, dead_letters);
        let document = Document {
            watchkeeper_pipeline: FORMAT,
            pipeline: Arc::clone(&stage.pipeline),
            stage: Arc::clone(&stage.stage),
            position: stored.position.iter().collect::<BTreeMap<_, _>>(),
            cursor: stored.cursor.map(|cursor| cursor.to_string()),
            outputs: &stored.outputs,
            dead_letters: &stored.dead_letters,
            next_dead_letter: stored.next_dead_letter,
        };
        let path = Arc::clone(&self.path);
        let mut bytes = serde_json::to_vec(&document).map_err(|error| FileStoreError::Json {
            path: shown(&path),
            doing: "write",
            problem: problem(&error),
        })?;
        // A number that is not finite is written as `null`, which nothing reads as a number again.
        serde_json::from_slice::<Read<T, O>>(&bytes).map_err(|error| FileStoreError::Json {
            path: shown(&path),
            doing: "write",
            problem: problem(&error),
        })?;
        let check = crc32fast::hash(&bytes);
        bytes.extend_from_slice(format!("\n{check:08x}\n").as_bytes());
        let writing = self.writing.insert(spawn_blocking(move || {
            // The lock is held to the end, also if the stage has been dropped meanwhile.
            let _lock = lock;
            replace(&path, &bytes)
        }));
        let written = writing.await;
        self.writing = None;
        written??;
        self.stored = stored;
        Ok(())
    }
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, FileStoreError> + Send + 'static,
) -> Result<R, DynError> {
    match spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(error.into()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn locked(path: &Path) -> Result<File, FileStoreError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .map_err(|source| FileStoreError::io(path, "make its directory", source))?;
    }
    let lock_path = beside(path, ".lock");
    let lock =
        File::create(&lock_path).map_err(|source| FileStoreError::io(&lock_path, "open it", source))?;
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(FileStoreError::Locked { path: shown(path) }),
            Err(TryLockError::Error(source)) => {
                return Err(FileStoreError::io(&lock_path, "lock it", source));
            }
        }
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileStoreError> {
    let written = beside(path, ".tmp");
    let write = || {
        let mut file = File::create(&written)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| FileStoreError::io(&written, "write it", source))?;
    fs::rename(&written, path).map_err(|source| FileStoreError::io(path, "replace it", source))?;
    #[cfg(unix)]
    {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let sync = || File::open(directory)?.sync_all();
        sync().map_err(|source| FileStoreError::io(directory, "sync it", source))?;
    }
    Ok(())
}

fn read<T, O>(path: &Path, bytes: &[u8], stage: &StageName) -> Result<Stored<T, O>, FileStoreError>
where
    T: DeserializeOwned,
    O: DeserializeOwned,
{
    let torn = |problem| FileStoreError::Torn { path: shown(path), bytes: bytes.len(), problem };
    let body = bytes.strip_suffix(b"\n").ok_or_else(|| torn("it does not end with a line feed"))?;
    let (line, check) = match body.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => (&body[..end], &body[end + 1..]),
        None => return Err(torn("it has no second line")),
    };
    if check.len() != 8 || !check.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(torn("its second line is not 8 hexadecimal digits"));
    }
    if format!("{:08x}", crc32fast::hash(line)).as_bytes() != check {
        return Err(torn("its first line does not have the checksum of its second"));
    }
    let json = |error| FileStoreError::Json { path: shown(path), doing: "read", problem: problem(&error) };
    let Format { watchkeeper_pipeline: found } = serde_json::from_slice(line).map_err(json)?;
    if found != FORMAT {
        return Err(FileStoreError::Format { path: shown(path), found });
    }
    let head: Head = serde_json::from_slice(line).map_err(json)?;
    let found = StageName { pipeline: head.pipeline, stage: head.stage };
    if found != *stage {
        let other = OtherStage { found, expected: stage.clone() };
        return Err(FileStoreError::OtherStage { path: shown(path), other });
    }
    let document: Read<T, O> = serde_json::from_slice(line).map_err(json)?;
    let cursor = document.cursor.map(|text| text.parse::<Cursor>()).transpose();
    Ok(Stored {
        position: document.position.into_iter().collect(),
        cursor: cursor.map_err(|_| torn("its cursor is no cursor"))?,
        outputs: document.outputs,
        dead_letters: document.dead_letters,
        next_dead_letter: document.next_dead_letter,
    })
}

/// Where it is, without the values that serde's own text repeats.
fn problem(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Io => "it cannot be written",
        serde_json::error::Category::Syntax => "no JSON",
        serde_json::error::Category::Data => {
            "a value of another type, a floating-point number that is not finite, or a field that is missing"
        }
        serde_json::error::Category::Eof => "it ends too early",
    };
    format!("{what}, at byte {} of the line", error.column())
}

fn shown(path: &Path) -> String {
    one_line(&path.display().to_string(), 300)
}

/// Why a [`FileStore`] was not read or written.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FileStoreError {
    /// The file system has refused something.
    #[error("{path}: cannot {doing}: make sure that the directory can be written to and has room")]
    Io {
        /// The file or directory.
        path: String,
        /// What was tried.
        doing: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Another process or another stage uses the file.
    #[error(
        "{path} is used by another process or another stage: stop that one, or give each stage a file of its own"
    )]
    Locked {
        /// The file.
        path: String,
    },
    /// The file is not what a commit has written.
    #[error(
        "{path} is torn ({bytes} bytes): {problem}; put back a copy, or, if it is the file of this stage, remove it, and the \
         stage begins without a position"
    )]
    Torn {
        /// The file.
        path: String,
        /// Its size.
        bytes: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// The file is of a newer version, or of an older one.
    #[error("{path} has format {found}, and this version reads format 1: use the version that wrote it")]
    Format {
        /// The file.
        path: String,
        /// Its format.
        found: u64,
    },
    /// The file is of another stage.
    #[error("{path}: {other}")]
    OtherStage {
        /// The file.
        path: String,
        /// Whose it is.
        other: OtherStage,
    },
    /// An item or an output is not what it was, or is nothing that JSON can show.
    #[error(
        "{path}: cannot {doing} an item, an output or a dead letter as JSON ({problem}): the types must be those that \
         were written, with maps by text alone"
    )]
    Json {
        /// The file.
        path: String,
        /// `read` or `write`.
        doing: &'static str,
        /// What is wrong, without any value.
        problem: String,
    },
    /// A commit before a load.
    #[error("{path}: commit was called before load: load it once, as a stage does when it starts")]
    NotLoaded {
        /// The file.
        path: String,
    },
}

debug_as_text!(FileStoreError);

impl FileStoreError {
    fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io { path: shown(path), doing, source }
    }
}
