//! The entry point: arguments in, exit code out.

use std::process::ExitCode;

// Many small, short-lived allocations on several threads: measured in docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ds_gateway::cli::main()
}
