;; Says `ready` and waits for a day.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "ready\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 512))
    (i32.store (i32.const 4) (i32.const 6))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    ;; A subscription of 48 bytes: the monotonic clock, in nanoseconds from now. WAMR of 2020 has the layout of an earlier WASI, with 8 bytes more
    ;; before the clock: the time is such that its lower half names the clock, too, and stands again where the precision is.
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 0x4e9400000001))
    (i64.store (i32.const 96) (i64.const 0x4e9400000001))
    (drop (call $poll_oneoff (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 8)))))
