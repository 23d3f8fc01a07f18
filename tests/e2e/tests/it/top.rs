//! `ratebox top` on a real terminal, against a real server.

use std::process::{Command, Stdio};

use ratebox_testkit::{Ratebox, RateboxOptions, TempDir};

use crate::place::ready;

/// Starts a command on a terminal of its own, types, resizes, signals; prints what it saw.
const DRIVER: &str = r#"
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
how, argv = sys.argv[1], sys.argv[2:]
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm-256color"
    os.execv(argv[0], argv)
seen = b""
def size(rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
def until(word, limit=40):
    global seen
    end = time.monotonic() + limit
    while word not in seen and time.monotonic() < end:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                seen += os.read(fd, 65536)
            except OSError:
                break
    return word in seen
size(30, 100)
before = termios.tcgetattr(fd)
found = [until(b"LANE"), until(b"normal"), until(b"DEAD LETTERS")]
seen = b""
size(3, 20)
found.append(until(b"quit"))
seen = b""
size(60, 200)
found.append(until(b"ERRORS"))
os.write(fd, b"c")
found.append(until(b"hand on") or until(b"no consumer", 1))
os.write(fd, b"n")
seen = b""
if how == "key":
    os.write(fd, b"q")
else:
    os.kill(pid, signal.SIGTERM)
left = until(b"\x1b[?1049l")
_, status = os.waitpid(pid, 0)
print(json.dumps({"found": found, "left": left, "code": os.waitstatus_to_exitcode(status)}))
"#;

fn drive(how: &str, data: &std::path::Path, no_colour: bool) -> serde_json::Value {
    let binary = RateboxOptions::new("top").binary_path().unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", DRIVER, how]).arg(binary);
    command
        .args(["top", "--every-ms", "200", "--data-dir"])
        .arg(data);
    command.stdin(Stdio::null());
    if no_colour {
        command.env("NO_COLOR", "1");
    }
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{done:?}"))
}

#[tokio::test]
async fn top_draws_resizes_asks_and_gives_the_terminal_back() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let up = Ratebox::up(|it| it.data_dir(&data));
    let _ratebox = ready(up.unwrap()).await;
    for (how, no_colour) in [("key", false), ("signal", true)] {
        let seen = drive(how, &data, no_colour);
        assert_eq!(
            seen["found"],
            serde_json::json!([true, true, true, true, true, true]),
            "{seen}"
        );
        assert_eq!(
            (&seen["left"], &seen["code"]),
            (&true.into(), &0.into()),
            "{how}: {seen}"
        );
    }
}

#[test]
fn without_a_terminal_top_points_to_the_report() {
    let run = RateboxOptions::new("top").run().unwrap();
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("ratebox monitor"), "{run:?}");
}
