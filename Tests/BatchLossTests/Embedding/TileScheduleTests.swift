import BatchLoss
import Foundation
import Synchronization
import Testing

// Every pair of blocks is one tile of one round, tiles have numbers of their own, and no two tiles of a round share a
// block: workers could otherwise add to one row at the same time. A tile knows how many earlier ones its blocks have.

@Suite struct TileScheduleTests {
  private func check(_ schedule: TileSchedule) {
    var seen: Set<[Int]> = []
    var numbers: Set<Int> = []
    var (rowTiles, columnTiles) = ([Int: Int](), [Int: Int]())
    for round in 0..<schedule.rounds {
      var (rows, columns): (Set<Int>, Set<Int>) = ([], [])
      for index in 0..<schedule.tiles(inRound: round) {
        guard let (row, column) = schedule.tile(index, inRound: round) else { continue }
        #expect(schedule.tiles(ofRowBlock: row, beforeRound: round) == rowTiles[row, default: 0])
        #expect(schedule.tiles(ofColumnBlock: column, beforeRound: round) == columnTiles[column, default: 0])
        rowTiles[row, default: 0] += 1
        if schedule.isSymmetric {
          if column != row { rowTiles[column, default: 0] += 1 }
          columnTiles = rowTiles
        } else {
          columnTiles[column, default: 0] += 1
        }
        #expect((0..<schedule.rowBlocks).contains(row) && (0..<schedule.columnBlocks).contains(column))
        #expect(seen.insert([row, column]).inserted)
        #expect(numbers.insert(schedule.number(row: row, column: column)).inserted)
        if schedule.isSymmetric && row != column {
          #expect(row < column && round > 0)
          #expect(rows.insert(row).inserted && rows.insert(column).inserted)
        } else {
          #expect(rows.insert(row).inserted && columns.insert(column).inserted)
        }
      }
    }
    #expect(seen.count == schedule.count)
    #expect(numbers.allSatisfy { (0..<schedule.count).contains($0) })
  }

  /// Tiles take their time, some of them much more than others, and still none begins before the earlier ones of its blocks
  /// are done.
  @Test func tilesWaitForEarlierOnes() throws {
    let schedules = [
      TileSchedule(symmetric: 6), TileSchedule(symmetric: 7), TileSchedule(rowBlocks: 5, columnBlocks: 5),
      TileSchedule(rowBlocks: 3, columnBlocks: 7), TileSchedule(rowBlocks: 7, columnBlocks: 4),
    ]
    for schedule in schedules {
      for workers in [1, 2, 3, 9] {
        // The ends of the tiles so far.
        let ends = Mutex<[[Int]]>([])
        let failures = Mutex(0)
        schedule.forEachTile(try engine(workers: workers)) { row, column, _, _ in
          let before = ends.withLock { $0 }
          let isReady = earlier(than: [row, column], in: schedule).allSatisfy { before.contains($0) }
          if !isReady { failures.withLock { $0 += 1 } }
          usleep((row * 7 + column * 3) % 5 == 0 ? 3000 : 100)
          ends.withLock { $0.append([row, column]) }
        }
        #expect(failures.withLock { $0 } == 0, "\(workers) workers")
        #expect(ends.withLock { $0.count } == schedule.count)
      }
    }
  }

  /// The tiles of earlier rounds that share a block with one.
  private func earlier(than tile: [Int], in schedule: TileSchedule) -> [[Int]] {
    var found: [[Int]] = []
    for round in 0..<schedule.rounds {
      let tiles = (0..<schedule.tiles(inRound: round)).compactMap { schedule.tile($0, inRound: round) }
      if tiles.contains(where: { [$0.row, $0.column] == tile }) { return found }
      found += tiles.map { [$0.row, $0.column] }.filter {
        schedule.isSymmetric ? !Set($0).isDisjoint(with: tile) : $0[0] == tile[0] || $0[1] == tile[1]
      }
    }
    return found
  }

  @Test func everyPairOnce() {
    for blocks in 0..<20 { check(TileSchedule(symmetric: blocks)) }
    for rows in 0..<7 { for columns in 0..<7 { check(TileSchedule(rowBlocks: rows, columnBlocks: columns)) } }
  }
}
