//! The errors of this crate. The binary prints them with `Display` and exits with [`Error::exit_code`]: 2 for usage, specs and
//! files that the user named, 1 for a run that failed, 130 for Ctrl-C.

use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error this crate reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// One or more mistakes in a spec, reported together.
    #[error("{0}")]
    Spec(Problems),
    /// A command cannot be carried out as requested; nothing was started.
    #[error("{0}")]
    Usage(String),
    /// A file that the user named is damaged, or has the wrong contents.
    #[error("{}: {what}", .path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, where, and what to do.
        what: String,
    },
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// A verb phrase: "write", "create the directory".
        doing: &'static str,
        /// The path it was attempted on.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A resource could not be downloaded, and is not available locally.
    #[error("{0}")]
    Download(String),
    /// Training produced a value that is not finite, or an invalid parameter.
    #[error("{0}")]
    Training(String),
    /// A requested unit of work is held by another process.
    #[error("{0}")]
    Held(String),
    /// The claim on a unit was taken over by another process; nothing was written.
    #[error("the claim on {} was taken over by another process; stopped without writing", .0.display())]
    ClaimLost(PathBuf),
    /// Ctrl-C, or the parent process has exited.
    #[error("interrupted")]
    Interrupted,
    /// A GPU ran out of memory, or failed.
    #[error("{0}")]
    Device(String),
    /// A tensor operation failed: a bug in the program.
    #[error("tensor operation failed: {0}")]
    Tensor(candle_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Error {
        use candle_core::Error as Candle;
        let mut root = error;
        // The backtrace into candle does not help the user.
        while let Candle::WithBacktrace { inner, .. } | Candle::Context { inner, .. } = root {
            root = *inner;
        }
        let Some(code) = driver_code(&root.to_string()).map(String::from) else { return Error::Tensor(root) };
        let is = |words: &[&str]| words.iter().any(|word| code.contains(word));
        let (what, advice) = match code.as_str() {
            // Invalid calls and indices out of range are bugs in the program.
            "CUDA_ERROR_INVALID_VALUE" | "CUDA_ERROR_NOT_FOUND" | "CUDA_ERROR_ASSERT" => return Error::Tensor(root),
            "CUBLAS_STATUS_INVALID_VALUE" | "CUBLAS_STATUS_NOT_SUPPORTED" => return Error::Tensor(root),
            "CUDA_ERROR_DEVICE_UNAVAILABLE" => ("the GPU is held by another process", "end that or wait for it"),
            // Initialisation allocates memory.
            "CUBLAS_STATUS_NOT_INITIALIZED" => {
                ("cuBLAS cannot be initialised", "free memory on the GPU, which may be full")
            }
            _ if is(&["MEMORY", "ALLOC"]) => (
                "the GPU is out of memory",
                "lower `train.batch_size`, `run.jobs` or `run.seed_batch` of a run, end other processes on it",
            ),
            _ if is(&["PTX", "JIT", "BINARY", "IMAGE", "ARCH_MISMATCH", "NOT_SUPPORTED"]) => (
                "the GPU driver does not accept this program's kernels",
                "repair or update it, build the program for this GPU (docs/devices.md)",
            ),
            _ => ("the GPU failed", "see the driver's messages (`nvidia-smi`, the system log)"),
        };
        Error::Device(format!(
            "{what} ({code}): {advice}, or compute on the CPU (`run.device: cpu`, or `--device cpu`)"
        ))
    }
}

/// The error code in a message of a GPU's driver or its libraries, such as `CUDA_ERROR_OUT_OF_MEMORY`.
pub(crate) fn driver_code(message: &str) -> Option<&str> {
    let starts = ["CUDA_ERROR_", "CUBLAS_STATUS_", "CURAND_STATUS_", "CUDNN_STATUS_"];
    let code = &message[starts.iter().filter_map(|start| message.find(start)).min()?..];
    Some(&code[..code.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_').unwrap_or(code.len())])
}

impl Error {
    /// Whether the machine failed, so that a retry may succeed.
    pub fn may_pass(&self) -> bool {
        matches!(self, Error::Io { .. } | Error::Device(_))
    }

    /// The process exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Spec(_) | Error::Usage(_) | Error::Data { .. } => 2,
            Error::Interrupted => 130,
            _ => 1,
        }
    }

    /// For `map_err` on file operations: `fs::read(&p).map_err(Error::io("read", &p))?`.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { doing, path, source }
    }

    /// A damaged or unexpected file.
    pub fn data(path: &Path, what: impl Into<String>) -> Error {
        Error::Data { path: path.to_path_buf(), what: what.into() }
    }
}

/// One mistake in a spec: key, value, what was expected, where it was set, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted path of the key, list items by number: `model.layers.0.hidden`. Empty for the whole spec.
    pub key: String,
    /// The offending value as YAML on one line, if there is one.
    pub value: Option<String>,
    /// What is wrong, and what was expected: "expected a whole number of at least 1".
    pub message: String,
    /// Where the value was set: `file:line:column`, `CCDNI__TRAIN__BPTT`, `--set train.bptt=0`.
    pub origin: Option<String>,
    /// The next step: "did you mean `bptt`?".
    pub help: Option<String>,
}

impl Problem {
    /// A problem with a key; `spec` fills in origin and value.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { key: key.into(), value: None, message: message.into(), origin: None, help: None }
    }

    /// Adds the next step.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "`{}`", self.key)?;
            if let Some(value) = &self.value {
                write!(f, " is `{value}`")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n    help: {help}")?;
        }
        Ok(())
    }
}

/// All the mistakes of a spec.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "{one}"),
            all => {
                write!(f, "{} problems in the spec:", all.len())?;
                for problem in all {
                    write!(f, "\n  {problem}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_errors_come_with_advice() {
        let converted = |text: &str| {
            let error = candle_core::Error::Msg(text.into()).bt().context("somewhere");
            let error = Error::from(error);
            (error.may_pass(), error.exit_code(), error.to_string())
        };
        let (again, code, text) = converted(r#"DriverError(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")"#);
        assert!(again && code == 1 && text.contains("(CUDA_ERROR_OUT_OF_MEMORY): lower `train.batch_size`"), "{text}");
        let (again, _, text) = converted("CublasError(CUBLAS_STATUS_EXECUTION_FAILED)");
        assert!(again && text.contains("the GPU failed (CUBLAS_STATUS_EXECUTION_FAILED)"), "{text}");
        for code in ["INVALID_PTX", "JIT_COMPILER_NOT_FOUND", "NO_BINARY_FOR_GPU", "INVALID_IMAGE", "NOT_SUPPORTED"] {
            let (again, _, text) = converted(&format!("DriverError(CUDA_ERROR_{code}, \"words\")"));
            assert!(again && text.contains(&format!("kernels (CUDA_ERROR_{code}): repair or update")), "{text}");
        }
        let program = ["CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_NOT_FOUND", "CUDA_ERROR_ASSERT"];
        for code in program.into_iter().chain(["CUBLAS_STATUS_INVALID_VALUE", "CUBLAS_STATUS_NOT_SUPPORTED"]) {
            let (again, exit, text) = converted(code);
            assert!(!again && exit == 1 && text == format!("tensor operation failed: {code}"), "{text}");
        }
        let (again, _, text) = converted("shape mismatch");
        assert!(!again && text == "tensor operation failed: shape mismatch", "{text}");
    }
}
