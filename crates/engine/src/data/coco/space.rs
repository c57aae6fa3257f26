//! Free disk space.

use std::path::Path;

use crate::error::{Error, Result};

/// Bytes available to this user on the file system of a directory.
///
/// # Errors
/// [`Error::Io`] from the system call.
#[cfg(unix)]
pub fn free(directory: &Path) -> Result<u64> {
    use std::os::unix::ffi::OsStrExt;

    let path = std::ffi::CString::new(directory.as_os_str().as_bytes());
    let path = path.map_err(|error| Error::io("ask for the free space of", directory)(error.into()))?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is NUL-terminated, and the buffer is fully initialised if the call returns 0.
    let answer = unsafe {
        match libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) {
            0 => answer.assume_init(),
            _ => return Err(Error::io("ask for the free space of", directory)(std::io::Error::last_os_error())),
        }
    };
    // The field types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    Ok((answer.f_bavail as u64).saturating_mul(answer.f_frsize as u64))
}

/// Unknown on this platform; never limits a job.
#[cfg(not(unix))]
pub fn free(_: &Path) -> Result<u64> {
    Ok(u64::MAX)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_positive_and_a_missing_path_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = free(directory.path()).unwrap();
        assert!(bytes > 0 && bytes < 1 << 60, "{bytes}");
        let error = free(&directory.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}
