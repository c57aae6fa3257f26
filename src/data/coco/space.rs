//! How much room a disk has.

use std::path::Path;

use crate::error::{Error, Result};

/// The bytes that this user may still write where a directory is.
///
/// # Errors
/// [`Error::Io`] with what the system says.
#[cfg(unix)]
pub fn free(directory: &Path) -> Result<u64> {
    use std::os::unix::ffi::OsStrExt;

    let path = std::ffi::CString::new(directory.as_os_str().as_bytes());
    let path = path.map_err(|error| Error::io("ask for the free space of", directory)(error.into()))?;
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends with a zero byte, and the system writes the answer in place, whole if it returns 0.
    let answer = unsafe {
        match libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) {
            0 => answer.assume_init(),
            _ => return Err(Error::io("ask for the free space of", directory)(std::io::Error::last_os_error())),
        }
    };
    // The types of both differ between systems.
    #[allow(clippy::unnecessary_cast)]
    Ok((answer.f_bavail as u64).saturating_mul(answer.f_frsize as u64))
}

/// Not known here: nothing is refused.
#[cfg(not(unix))]
pub fn free(_: &Path) -> Result<u64> {
    Ok(u64::MAX)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_some_room_and_what_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = free(directory.path()).unwrap();
        assert!(bytes > 0 && bytes < 1 << 60, "{bytes}");
        let error = free(&directory.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }
}
