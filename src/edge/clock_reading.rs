//! What the clocks say when a request is decided on.

use crate::auth::gate::ClockReading;
use crate::clock::Clock;
use crate::store::read_gap::ReadGap;

/// Both clocks, now. After a pause of the process this waits for what was revoked meanwhile.
pub(super) async fn read_clock(clock: &Clock, gap: &ReadGap) -> ClockReading {
    let reading = clock.read();
    if !gap.is_open(reading.uptime) {
        return reading;
    }
    gap.wait(reading.uptime).await;
    clock.read()
}
