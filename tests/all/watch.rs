//! `ccdni watch` in a terminal of its own: what it draws of a run in training, what keys do, and that the terminal is left as it was.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::lab::Lab;

/// A pseudo-terminal of 30 rows and 100 columns: the side of the user, and that of the program.
fn terminal() -> (File, OwnedFd) {
    let (mut user, mut program) = (0, 0);
    let size = libc::winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let (none, default) = (std::ptr::null_mut(), std::ptr::null_mut());
    // Not every system takes a constant.
    let size = (&raw const size).cast_mut();
    // SAFETY: the pointers are to variables of the right types, or null where that is allowed.
    assert_eq!(unsafe { libc::openpty(&mut user, &mut program, none, default, size) }, 0);
    // SAFETY: both were opened just now and belong to no one else.
    unsafe { (File::from_raw_fd(user), OwnedFd::from_raw_fd(program)) }
}

/// What the program has drawn so far.
struct Screen {
    bytes: Receiver<Vec<u8>>,
    text: String,
}

impl Screen {
    fn new(mut user: File) -> Self {
        let (send, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = user.read(&mut buffer) {
                if count == 0 || send.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Screen { bytes, text: String::new() }
    }

    /// Waits until what is drawn from here on has this property.
    fn wait(&mut self, what: &str, holds: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        let mut seen = Vec::new();
        loop {
            let new = String::from_utf8_lossy(&seen).into_owned();
            if holds(&new) {
                self.text += &new;
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}: {new:?}");
            seen.extend(self.bytes.recv_timeout(Duration::from_secs(10)).unwrap_or_default());
        }
    }
}

fn is_braille(letter: char) -> bool {
    ('\u{2801}'..='\u{28ff}').contains(&letter)
}

#[test]
fn curves_of_a_run_in_training_move_in_a_terminal() {
    let lab = Lab::new();
    let training = lab.start(&["run", "spec.yaml", "--set", "train.epochs=3000", "--set", "task.train_size=400"]);
    let begun = Instant::now();
    // The name of a run is its hash; a directory that is not yet whole has another.
    let found = || {
        let names = std::fs::read_dir(lab.path("outputs")).into_iter().flatten().flatten();
        let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.find(|name| name.len() == 12 && lab.path(&format!("outputs/{name}/spec.yaml")).is_file())
    };
    let run = loop {
        assert!(begun.elapsed() < Duration::from_secs(30), "no run begins");
        match found() {
            Some(run) => break run,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };

    let (mut user, program) = terminal();
    let side = || Stdio::from(program.try_clone().unwrap());
    let mut command = lab.command(&["watch", &run[..6]]);
    command.env("TERM", "xterm-256color").stdin(side()).stdout(side()).stderr(side());
    let mut child = command.spawn().unwrap();
    drop((command, program));
    let mut screen = Screen::new(user.try_clone().unwrap());

    screen.wait("the first frame", |text| {
        [run.as_str(), "tiny", "linedraw", "ccRNN", "epoch"].iter().all(|word| text.contains(word))
    });
    screen.wait("a curve", |text| text.contains(is_braille));
    screen.wait("the next epochs", |text| text.contains(is_braille));
    user.write_all(b"l").unwrap();
    screen.wait("a logarithmic axis", |text| text.contains("logarithmic"));
    training.signal_group("KILL");
    training.end();
    screen.wait("the end of training", |text| text.contains("waiting"));
    user.write_all(b"q").unwrap();
    screen.wait("the terminal as it was", |text| text.contains("\u{1b}[?1049l"));
    assert!(child.wait().unwrap().success());
    assert!(screen.text.contains("train_loss") && screen.text.contains("running"), "{}", screen.text);
}
