//! What the host must grant before anything is served: descriptors, a background, another user.
//!
//! Always true: whatever is refused ends the start with a sentence that says what to do.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::StartError;
use crate::config::Settings;

/// Descriptors the server needs besides its clients': listeners, rings, eventfds, the admin
/// endpoint, standard streams.
const RESERVED_FILES: u64 = 64;

/// Makes sure that as many descriptors may be opened as there may be connections.
///
/// # Errors
/// When the limit is lower and may not be raised.
pub fn raise_file_limit(settings: &Settings) -> Result<(), StartError> {
    let conns_max = settings.conns_max;
    let shard_ports = if settings.shard_ports {
        settings.workers * settings.listen.len()
    } else {
        0
    };
    let wanted = (conns_max + shard_ports) as u64 + RESERVED_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| format!("the limit of open files cannot be read: {error}"))?;
    if soft >= wanted {
        return Ok(());
    }
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open");
    let most = most.ok().and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(most) = most.filter(|most| *most < wanted) {
        return Err(StartError(format!(
            "-c {conns_max} needs {wanted} open files and this kernel lets a process have {most}; \
             lower -c or raise fs.nr_open (sysctl fs.nr_open={wanted})"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).map_err(|_| {
        StartError(format!(
            "-c {conns_max} needs {wanted} open files and the limit is {hard}; \
             raise it (ulimit -n {wanted}, LimitNOFILE= in a unit file) or lower -c"
        ))
    })
}

/// Lets a process that is to lock its memory lock all of it, as far as it may raise that limit: root
/// needs none, and the user that it becomes does.
pub fn raise_lock_limit(settings: &Settings) {
    if settings.lock_memory {
        let most = libc::RLIM_INFINITY;
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, most, most);
    }
}

/// Lets the process leave a core file of any size when it fails, as far as the host allows.
///
/// # Errors
/// When it allows none at all.
pub fn allow_core_files() -> Result<(), StartError> {
    let refused = |error| format!("-r: no core file may be left ({error}); raise ulimit -c");
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).map_err(refused)?;
    if setrlimit(
        Resource::RLIMIT_CORE,
        libc::RLIM_INFINITY,
        libc::RLIM_INFINITY,
    )
    .is_err()
    {
        setrlimit(Resource::RLIMIT_CORE, hard, hard).map_err(refused)?;
    }
    match getrlimit(Resource::RLIMIT_CORE).map_err(refused)? {
        (0, _) => Err(StartError(
            "-r: the limit of core files is 0; raise ulimit -c".into(),
        )),
        _ => Ok(()),
    }
}

/// Goes into the background; to be called before any thread exists. As memcached, it leaves the
/// working directory unless a core file may be left there (`-r`), and keeps standard error if
/// something is to be said there (`-v`).
///
/// # Errors
/// When the system does not let it.
pub fn detach(leaves_core_files: bool, is_verbose: bool) -> Result<(), StartError> {
    nix::unistd::daemon(leaves_core_files, is_verbose)
        .map_err(|error| StartError(format!("-d: cannot go into the background: {error}")))
}

/// Writes the process id to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pid_file(path: &Path) -> Result<(), StartError> {
    std::fs::write(path, format!("{}\n", std::process::id()))
        .map_err(|error| StartError(format!("-P: cannot write {}: {error}", path.display())))
}

/// Gives up root's rights for those of a user; does nothing when not started as root. A process that
/// does so leaves no core file unless it is told that it may (`-r`).
///
/// # Errors
/// When there is no such user, or the system does not let it.
pub fn become_user(name: &str, leaves_core_files: bool) -> Result<(), StartError> {
    use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
    if !geteuid().is_root() {
        return Ok(());
    }
    let user = User::from_name(name)
        .ok()
        .flatten()
        .ok_or_else(|| format!("-u: there is no user {name}"))?;
    let c_name = std::ffi::CString::new(name).map_err(|error| format!("-u {name}: {error}"))?;
    initgroups(&c_name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .and_then(|()| match leaves_core_files {
            true => nix::sys::prctl::set_dumpable(true),
            false => Ok(()),
        })
        .map_err(|error| StartError(format!("-u: cannot become {name}: {error}")))
}
