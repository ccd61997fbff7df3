import BatchLoss
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

  @Test func everyPairOnce() {
    for blocks in 0..<20 { check(TileSchedule(symmetric: blocks)) }
    for rows in 0..<7 { for columns in 0..<7 { check(TileSchedule(rowBlocks: rows, columnBlocks: columns)) } }
  }
}
