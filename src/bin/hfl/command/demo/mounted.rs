//! The mount step of the demo: hfl-mount over HTTP, compared byte by byte with the published image.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use hfl::Error;

use crate::show::bytes;

/// Time limit for the mount to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// Mounts `url` at `point`, compares it with `image`, and returns the result, or why it cannot be mounted.
pub async fn compare(url: &str, key: &Path, point: &Path, image: &Path) -> anyhow::Result<String> {
    let Some(program) = hfl::system::installed::clients().into_iter().next() else {
        return Ok("not mounted: there is no hfl-mount beside hfl".into());
    };
    if File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return Ok("not mounted: /dev/fuse cannot be opened here".into());
    }
    fs::create_dir_all(point).map_err(|e| Error::io(point, &e))?;
    let (url, key, point, image) = (url.to_owned(), key.to_owned(), point.to_owned(), image.to_owned());
    tokio::task::spawn_blocking(move || compare_mounted(&program, &url, &key, &point, &image)).await?
}

fn compare_mounted(program: &Path, url: &str, key: &Path, point: &Path, image: &Path) -> anyhow::Result<String> {
    let mut command = hfl::system::child::command(program);
    command.args(["--foreground", "--no-cache", "--key"]).arg(key).arg(url).arg(point);
    let client = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| Error::io(program, &e))?;
    let mut client = Client(client);
    let file = point.join("demo");
    let started = Instant::now();
    while !file.is_file() {
        if client.0.try_wait()?.is_some() || started.elapsed() > PATIENCE {
            return Ok(format!("not mounted: {}", client.complaint()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let started = Instant::now();
    if !same(&file, image)? {
        return Err(Error::local("the mounted image differs from two.img").into());
    }
    let seconds = started.elapsed().as_secs_f64();
    let size = fs::metadata(image).map_err(|e| Error::io(image, &e))?.len();
    let rate = bytes((size as f64 / seconds) as u64);
    Ok(format!("mounted with hfl-mount: {} read in {seconds:.1} s ({rate}/s), every byte equal", bytes(size)))
}

/// Whether two files have the same contents.
pub fn same(a: &Path, b: &Path) -> anyhow::Result<bool> {
    let open = |path: &Path| File::open(path).map_err(|e| Error::io(path, &e));
    let (mut a, mut b) = (open(a)?, open(b)?);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        (&mut a).take(1 << 20).read_to_end(&mut left)?;
        (&mut b).take(1 << 20).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// The client process; it ends with the demo in any case.
struct Client(Child);

impl Client {
    fn complaint(&mut self) -> String {
        self.stop();
        let mut text = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            // Only explains the result; this is not a failure of the demo.
            let _ = stderr.read_to_string(&mut text);
        }
        text.lines().last().unwrap_or("hfl-mount did not come up").to_owned()
    }

    /// Unmounts and ends it with SIGTERM.
    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
    }
}
