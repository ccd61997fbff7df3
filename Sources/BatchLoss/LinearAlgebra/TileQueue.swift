import BatchLossInstructions
import Glibc
import Synchronization

/// The tiles of a ``TileSchedule`` for workers who take them: one round after another, each tile as soon as all earlier
/// ones of its blocks are done.
///
/// So what tiles add to their blocks is added in the order of the rounds, without everyone waiting for the last tile of
/// each round. Nobody begins a round before all tiles of the ones before are done or at work, so nobody waits for ever.
/// In every round a worker has a range of its own, whose blocks of rows mostly stay the same.
struct TileQueue {
  let schedule: TileSchedule
  /// The tiles taken of each worker's range, for each round.
  private let taken: UnsafeMutablePointer<Int>
  private let ranges: Int
  /// How many tiles of each block are done: of rows, and behind them of columns where those are others.
  private let done: UnsafeMutablePointer<Int>
  private let firstRound: UnsafeMutablePointer<Int>

  init(_ schedule: TileSchedule, workers: Int, _ arena: inout Arena) {
    self.schedule = schedule
    ranges = max(1, min(workers, schedule.tilesAtOnce))
    taken = arena.array(of: Int.self, schedule.rounds * ranges)
    done = arena.array(of: Int.self, schedule.rowBlocks + schedule.columnBlocks)
    firstRound = arena.array(of: Int.self, 1)
  }

  /// Calls `body` with the blocks of every tile.
  func forEachTile(_ engine: Engine, _ body: (_ row: Int, _ column: Int, _ workspace: Workspace) -> Void) {
    let rounds = schedule.rounds
    guard rounds > 0 else { return }
    let taken = atomics(taken, rounds * ranges)
    let firstRound = atomics(firstRound, 1)
    let counters = atomics(done, schedule.rowBlocks + schedule.columnBlocks)
    let columnCounters = counters + (schedule.isSymmetric ? 0 : schedule.rowBlocks)
    let places = schedule.tiles(inRound: 0)

    /// A tile of the first round that has one left, as round · places + index.
    func claim(_ seat: Int) -> Int? {
      while true {
        let round = firstRound.pointee.load(ordering: .relaxed)
        guard round < rounds else { return nil }
        let count = schedule.tiles(inRound: round)
        for distance in 0..<ranges {
          let range = (seat + distance) % ranges
          let (start, end) = (count * range / ranges, count * (range + 1) / ranges)
          let counter = taken + (round * ranges + range)
          guard counter.pointee.load(ordering: .relaxed) < end - start else { continue }
          let index = start + counter.pointee.add(1, ordering: .relaxed).oldValue
          if index < end { return round * places + index }
        }
        _ = firstRound.pointee.compareExchange(expected: round, desired: round + 1, ordering: .relaxed)
      }
    }
    engine.forEachClaim(workers: ranges, claim) { place, workspace in
      let (round, index) = place.quotientAndRemainder(dividingBy: places)
      guard let (row, column) = schedule.tile(index, inRound: round) else { return }
      let isDiagonal = schedule.isSymmetric && row == column
      wait(for: counters + row, schedule.tiles(ofRowBlock: row, beforeRound: round))
      if !isDiagonal {
        wait(for: columnCounters + column, schedule.tiles(ofColumnBlock: column, beforeRound: round))
      }
      body(row, column, workspace)
      // Additions are locked instructions, which stores past the cache do not overtake either.
      counters[row].add(1, ordering: .releasing)
      if !isDiagonal { columnCounters[column].add(1, ordering: .releasing) }
    }
  }

  private func atomics(_ memory: UnsafeMutablePointer<Int>, _ count: Int) -> UnsafeMutablePointer<Atomic<Int>> {
    let atomics = UnsafeMutableRawPointer(memory).bindMemory(to: Atomic<Int>.self, capacity: count)
    for index in 0..<count { (atomics + index).initialize(to: Atomic(0)) }
    return atomics
  }

  private func wait(for counter: UnsafeMutablePointer<Atomic<Int>>, _ count: Int) {
    var patient = 0
    while counter.pointee.load(ordering: .acquiring) < count {
      batchloss_pause()
      patient += 1
      if patient.isMultiple(of: 256) { sched_yield() }
    }
  }
}
