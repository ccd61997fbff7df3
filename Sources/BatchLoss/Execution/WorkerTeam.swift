import BatchLossInstructions
import Dispatch
import Glibc
import Synchronization

/// Threads of Dispatch that help a caller and stay awake for a while after it.
///
/// A call is made of parts that need each other's results, and a thread that sleeps takes tens of microseconds to wake.
/// So helpers wait in a loop for the next part, or the next call, before they go back to Dispatch.
final class WorkerTeam: Sendable {
  /// How long a helper waits for more work, in nanoseconds.
  private let patience: UInt64

  /// From the lowest bit: helpers at work (15 bits), whether more may join (1), helpers awake or on their way (16), the
  /// number of the work (32). One word, so that nobody joins work that is over and nobody falls asleep unseen.
  private let state = Atomic<UInt64>(0)
  private static let atWork = UInt64(0x7fff)
  private static let open = UInt64(1) << 15
  private static let awake = UInt64(1) << 16
  private static let number = UInt64(1) << 32

  private let isTaken = Atomic<Bool>(false)
  /// Changes only while nobody is at work and nobody may join.
  private nonisolated(unsafe) var work: ((Int) -> Void)?

  /// A bit for each seat that a helper has, the first one for the caller's.
  private let seats = Atomic<UInt64>(1)
  private let furtherSeats = Atomic<Int>(0)

  init(patience: UInt64) { self.patience = patience }

  /// Calls `work` on this thread and on `helpers` others at the same time; returns when all are done. `work` must be
  /// right whoever takes part: helpers come late or not at all where the system is busy, and more of them where more
  /// are awake. It is told the seat of its thread: 0 is the caller's, and a helper keeps its own as long as it is awake.
  /// - Returns: False, with nothing done, where the team works for another caller.
  func run(helpers: Int, _ work: (Int) -> Void) -> Bool {
    guard isTaken.compareExchange(expected: false, desired: true, ordering: .acquiring).exchanged else {
      return false
    }
    withoutActuallyEscaping(work) { work in
      self.work = work
      begin(helpers: helpers)
      work(0)
      finish()
      self.work = nil
    }
    isTaken.store(false, ordering: .releasing)
    return true
  }

  private func begin(helpers: Int) {
    var old = state.load(ordering: .relaxed)
    var missing: UInt64
    repeat {
      let awake = (old & (Self.number - 1)) / Self.awake
      missing = UInt64(helpers) > awake ? UInt64(helpers) - awake : 0
      let new = (old &+ Self.number + missing * Self.awake) | Self.open
      let (exchanged, original) = state.weakCompareExchange(expected: old, desired: new, ordering: .releasing)
      old = original
      if exchanged { break }
    } while true
    for _ in 0..<missing { DispatchQueue.global().async { self.help() } }
  }

  private func finish() {
    state.bitwiseAnd(~Self.open, ordering: .acquiring)
    var patient = 0
    while state.load(ordering: .acquiring) & Self.atWork != 0 {
      batchloss_pause()
      patient += 1
      if patient.isMultiple(of: 256) { sched_yield() }
    }
  }

  private func help() {
    var seat = takeSeat()
    var last: UInt64?
    var deadline = DispatchTime.now().uptimeNanoseconds + patience
    while true {
      for _ in 0..<64 {
        let old = state.load(ordering: .relaxed)
        if old & Self.open != 0, old / Self.number != last {
          guard state.compareExchange(expected: old, desired: old + 1, ordering: .acquiring).exchanged else {
            continue
          }
          last = old / Self.number
          takePart(seat)
          state.subtract(1, ordering: .releasing)
          deadline = DispatchTime.now().uptimeNanoseconds + patience
        }
        batchloss_pause()
      }
      // Whoever else wants this processor goes first.
      sched_yield()
      if DispatchTime.now().uptimeNanoseconds > deadline {
        let old = state.load(ordering: .relaxed)
        if old & Self.open != 0, old / Self.number != last { continue }
        // First, so that whoever is called in its place finds the seat free.
        leave(seat)
        if state.compareExchange(expected: old, desired: old - Self.awake, ordering: .relaxed).exchanged { return }
        seat = takeSeat()
      }
    }
  }

  /// A function of its own, so that nothing of the work is held once it returns.
  @inline(never)
  private func takePart(_ seat: Int) { work?(seat) }

  /// The lowest free seat; beyond those that have a bit, numbers that go round.
  private func takeSeat() -> Int {
    var taken = seats.load(ordering: .relaxed)
    while taken != .max {
      let free = (~taken).trailingZeroBitCount
      let (exchanged, original) = seats.weakCompareExchange(
        expected: taken, desired: taken | 1 << UInt64(free), ordering: .relaxed)
      if exchanged { return free }
      taken = original
    }
    return UInt64.bitWidth + furtherSeats.add(1, ordering: .relaxed).oldValue % 1024
  }

  private func leave(_ seat: Int) {
    if seat < UInt64.bitWidth { seats.bitwiseAnd(~(1 << UInt64(seat)), ordering: .relaxed) }
  }
}
