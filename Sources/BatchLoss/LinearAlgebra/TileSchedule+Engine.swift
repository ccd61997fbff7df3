import BatchLossInstructions
import Glibc
import Synchronization

extension TileSchedule {
  /// Calls `body` with the blocks of every tile, in parallel, one round after another: each tile as soon as all earlier ones
  /// of its blocks are done.
  ///
  /// So what tiles add to their blocks is added in the order of the rounds, without everyone waiting for the last tile of
  /// each round. Nobody begins a round before all tiles of the ones before are done or at work, so nobody waits for ever.
  /// In every round a worker has a range of its own, whose blocks of rows mostly stay the same. `next` is the tile that a
  /// worker is likely to have next.
  package func forEachTile(
    _ engine: Engine,
    _ body: (_ row: Int, _ column: Int, _ next: (row: Int, column: Int)?, _ workspace: Workspace) -> Void
  ) {
    let (rounds, blocks) = (rounds, rowBlocks + columnBlocks)
    guard rounds > 0 else { return }
    let ranges = max(1, min(engine.configuration.workerCount, tilesAtOnce))
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    // The tiles taken of each worker's range in each round, and the tiles done of each block: of rows, and behind them of
    // columns where those are others.
    let (takenMemory, doneMemory, roundMemory) = workspace.arrays { arena in
      (arena.array(of: Int.self, rounds * ranges), arena.array(of: Int.self, blocks), arena.array(of: Int.self, 1))
    }
    let taken = Self.counters(takenMemory, rounds * ranges)
    let firstRound = Self.counters(roundMemory, 1)
    let done = Self.counters(doneMemory, blocks)
    let columnsDone = done + (isSymmetric ? 0 : rowBlocks)
    let places = tiles(inRound: 0)

    /// A tile of the first round that has one left, as round · places + index.
    func claim(_ seat: Int) -> Int? {
      while true {
        let round = firstRound.pointee.load(ordering: .relaxed)
        guard round < rounds else { return nil }
        let count = tiles(inRound: round)
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
      guard let (row, column) = tile(index, inRound: round) else { return }
      let isDiagonal = isSymmetric && row == column
      Self.wait(for: done + row, tiles(ofRowBlock: row, beforeRound: round))
      if !isDiagonal { Self.wait(for: columnsDone + column, tiles(ofColumnBlock: column, beforeRound: round)) }
      body(row, column, next(after: index, inRound: round, ranges), workspace)
      // Additions are locked instructions, which stores past the cache do not overtake either.
      done[row].add(1, ordering: .releasing)
      if !isDiagonal { columnsDone[column].add(1, ordering: .releasing) }
    }
  }

  private func next(after index: Int, inRound round: Int, _ ranges: Int) -> (row: Int, column: Int)? {
    let count = tiles(inRound: round)
    let range = (0..<ranges).first { index < count * ($0 + 1) / ranges } ?? 0
    if index + 1 < count * (range + 1) / ranges { return tile(index + 1, inRound: round) }
    return round + 1 < rounds ? tile(tiles(inRound: round + 1) * range / ranges, inRound: round + 1) : nil
  }

  private static func counters(
    _ memory: UnsafeMutablePointer<Int>, _ count: Int
  ) -> UnsafeMutablePointer<Atomic<Int>> {
    let counters = UnsafeMutableRawPointer(memory).bindMemory(to: Atomic<Int>.self, capacity: count)
    for index in 0..<count { (counters + index).initialize(to: Atomic(0)) }
    return counters
  }

  private static func wait(for counter: UnsafeMutablePointer<Atomic<Int>>, _ count: Int) {
    var patient = 0
    while counter.pointee.load(ordering: .acquiring) < count {
      batchloss_pause()
      patient += 1
      if patient.isMultiple(of: 256) { sched_yield() }
    }
  }
}
