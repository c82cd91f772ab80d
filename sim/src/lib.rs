#[cfg(not(madsim))]
compile_error!("the simulator needs `--cfg madsim`: build from inside the workspace and leave RUSTFLAGS unset");
