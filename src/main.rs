//! The `ccdni` binary: the application with the built-in tasks.

fn main() -> std::process::ExitCode {
    ccdni::App::new().main()
}
