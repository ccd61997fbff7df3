/// Tiles of a matrix of all pairs in rounds: within a round no two tiles share a block of rows or a block of columns.
///
/// So the tiles of a round may run at the same time and add to what belongs to their rows and to their columns, and
/// every row and column receives its contributions in the order of the rounds, whoever works on them. ``forEachTile(_:_:)``
/// runs them.
package struct TileSchedule {
  package let rowBlocks: Int
  package let columnBlocks: Int
  /// Rows are paired with themselves: each unordered pair of blocks is one tile, and the diagonal comes first.
  package let isSymmetric: Bool

  package init(rowBlocks: Int, columnBlocks: Int) {
    self.rowBlocks = rowBlocks
    self.columnBlocks = columnBlocks
    isSymmetric = false
  }

  package init(symmetric blocks: Int) {
    rowBlocks = blocks
    columnBlocks = blocks
    isSymmetric = true
  }

  /// Players of the tournament, one of them absent where blocks are odd.
  private var players: Int { (rowBlocks + 1) & ~1 }

  package var rounds: Int {
    if rowBlocks == 0 || columnBlocks == 0 { return 0 }
    return isSymmetric ? players : max(rowBlocks, columnBlocks)
  }

  package func tiles(inRound round: Int) -> Int {
    isSymmetric && round > 0 ? players / 2 : min(rowBlocks, columnBlocks)
  }

  /// A tile's blocks, the row's not behind the column's where they are of the same rows; `nil` where one is absent.
  package func tile(_ index: Int, inRound round: Int) -> (row: Int, column: Int)? {
    guard isSymmetric else {
      return rowBlocks <= columnBlocks
        ? (index, (index + round) % columnBlocks) : ((index + round) % rowBlocks, index)
    }
    guard round > 0 else { return (index, index) }
    // The circle method: one stays, the others move on by one a round.
    let others = players - 1
    let first = index == 0 ? others : (round + index) % others
    let second = index == 0 ? round % others : (round + others - index) % others
    guard max(first, second) < rowBlocks else { return nil }
    return (min(first, second), max(first, second))
  }

  /// How many tiles share no block with each other.
  package var tilesAtOnce: Int { isSymmetric ? rowBlocks / 2 : min(rowBlocks, columnBlocks) }

  // MARK: Earlier rounds

  /// How many tiles of earlier rounds have a block of rows.
  package func tiles(ofRowBlock block: Int, beforeRound round: Int) -> Int {
    if isSymmetric {
      // Of an odd number each sits out once: in the round of its own number, the first one in the last.
      let isOut = players > rowBlocks && (block == 0 ? rowBlocks : block) < round
      return round - (isOut ? 1 : 0)
    }
    return rowBlocks <= columnBlocks ? round : Self.meetings(block, round, of: rowBlocks, with: columnBlocks)
  }

  /// How many tiles of earlier rounds have a block of columns.
  package func tiles(ofColumnBlock block: Int, beforeRound round: Int) -> Int {
    if isSymmetric { return tiles(ofRowBlock: block, beforeRound: round) }
    return columnBlocks < rowBlocks ? round : Self.meetings(block, round, of: columnBlocks, with: rowBlocks)
  }

  /// In round r one of `many` blocks meets number (block − r) mod `many` of the `few` others, if there is one.
  private static func meetings(_ block: Int, _ rounds: Int, of many: Int, with few: Int) -> Int {
    let first = block - rounds + 1
    let direct = max(0, min(block, few - 1) - max(first, 0) + 1)
    return direct + (first < 0 ? max(0, few - (many + first)) : 0)
  }

  /// How many different tiles there are.
  package var count: Int { isSymmetric ? rowBlocks * (rowBlocks + 1) / 2 : rowBlocks * columnBlocks }

  /// A number below `count` for each tile.
  package func number(row: Int, column: Int) -> Int {
    isSymmetric ? column * (column + 1) / 2 + row : row * columnBlocks + column
  }
}
