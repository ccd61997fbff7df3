import BatchLossKernelInterface

/// What the loss of one anchor row contributes.
struct RowResult {
  var loss = 0.0
  /// The sum of the weights left in the row.
  var weightSum = 0.0
  /// The sum of weights times similarities.
  var weighted = 0.0
  /// How many losses there are in the row, and how many of them are greater than 0.
  var valid = 0
  var active = 0
}

/// Every row of a matrix against all rows of another: similarities or distances, the loss of each row, and the
/// gradient by two products, without a matrix of all pairs.
///
/// A group of anchor rows is worked on at a time. For each of its rows the loss turns the row of values into
/// weights, in place: the derivatives by similarity or by squared distance. Then the weights W of the group give
///
/// - to the queries W·K (and the row sums of W), written by the worker that has the row;
/// - to the keys Wᵀ·Q (and the column sums of W), written by the worker that has the key.
///
/// No row is written by two workers, and groups follow one another, so the bits depend on shape and budget alone; those of
/// the distances of a set from itself on the shape.
struct RowSweep<Scalar: LossScalar> {
  let tile: PairTile<Scalar>
  let engine: Engine
  /// Rows are paired with themselves.
  private let isSymmetric: Bool
  /// Rows of a block, which one worker fills.
  private let blockSize: Int
  /// The rows of a group, and its memory: as many rows of `keys.rows` values.
  let groupRows: Int
  let group: UnsafeMutablePointer<Scalar>
  let results: UnsafeMutablePointer<RowResult>
  /// Σᵢ Wᵢⱼ for each key; `nil` when not needed.
  let columnSums: UnsafeMutablePointer<Double>?

  init(
    _ tile: PairTile<Scalar>, engine: Engine, isSymmetric: Bool = false, holdsAllRows: Bool = false,
    needsColumnSums: Bool, _ arena: inout Arena
  ) {
    self.tile = tile
    self.engine = engine
    self.isSymmetric = isSymmetric
    let (rows, columns) = (tile.queries.rows, tile.keys.rows)
    blockSize = isSymmetric ? TileSweep<Scalar>.blockSize(rows) : Self.blockSize(rows)
    groupRows =
      holdsAllRows
      ? rows
      : Self.groupRows(
        rows: rows, columns: columns, block: blockSize, budget: engine.configuration.workspaceBudget)
    group = arena.array(of: Scalar.self, groupRows * columns)
    results = arena.array(of: RowResult.self, rows)
    columnSums = needsColumnSums ? arena.array(of: Double.self, columns) : nil
  }

  private static func blockSize(_ rows: Int) -> Int { rows >= 2048 ? 256 : rows >= 1024 ? 128 : 64 }

  /// Room for a whole vector beyond the last column of a spare tile.
  private var spareStride: Int { blockSize + 16 }

  /// Enough rows for products of good depth, not more than stay in a last-level cache or fit the budget.
  private static func groupRows(rows: Int, columns: Int, block: Int, budget: Int) -> Int {
    let bytes = max(1, columns) * MemoryLayout<Scalar>.stride
    let wanted = max(512, (16 << 20) / bytes)
    let allowed = max(block, budget / bytes)
    return min(rows, (min(wanted, allowed) + block - 1) / block * block)
  }

  /// One pass over all rows.
  ///
  /// - Parameters:
  ///   - isFilled: The group holds all rows and their values are there already.
  ///   - scratch: How many scalars and 32-bit integers `body` may use.
  ///   - queryGradient: Receives += W·K.
  ///   - keyGradient: Receives += Wᵀ·Q.
  ///   - afterGroup: Called between the losses of a group and its contribution to keys.
  ///   - body: The loss of a row, which it replaces by weights.
  func run(
    isFilled: Bool = false, scratch: (scalars: Int, integers: Int) = (0, 0),
    queryGradient: RowMajor<Scalar>? = nil, keyGradient: RowMajor<Scalar>? = nil,
    afterGroup: (Range<Int>, UnsafeMutablePointer<Scalar>) -> Void = { _, _ in },
    body: (
      _ row: Int, _ values: UnsafeMutablePointer<Scalar>, _ scalars: UnsafeMutablePointer<Scalar>,
      _ integers: UnsafeMutablePointer<Int32>
    ) -> RowResult
  ) {
    let groups = BlockPartition(of: tile.queries.rows, blockSize: groupRows)
    for index in 0..<groups.blocks {
      let rows = groups[index]
      fill(rows, isFilled, scratch, queryGradient, body)
      afterGroup(rows, group)
      if let keyGradient { addToKeys(rows, keyGradient) }
    }
  }

  // MARK: The queries' side

  private func fill(
    _ rows: Range<Int>, _ isFilled: Bool, _ scratch: (scalars: Int, integers: Int),
    _ gradient: RowMajor<Scalar>?,
    _ body: (
      Int, UnsafeMutablePointer<Scalar>, UnsafeMutablePointer<Scalar>, UnsafeMutablePointer<Int32>
    ) -> RowResult
  ) {
    let columns = tile.keys.rows
    let blocks = BlockPartition(of: rows.count, blockSize: blockSize)
    engine.forEachBlock(blocks.blocks) { block, workspace in
      let first = rows.lowerBound + blocks[block].lowerBound
      let count = blocks[block].count
      let values = group + blocks[block].lowerBound * columns
      let spareCount = isSymmetric ? blockSize * spareStride : 0
      let transferCount = isSymmetric ? TileTransfer<Scalar>.scratchCount(rows: blockSize) : 0
      let (scalars, integers, spare, transfer, panels) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, scratch.scalars),
          arena.array(of: Int32.self, max(scratch.integers, PairTile<Scalar>.columnsPerProduct)),
          arena.array(of: Scalar.self, spareCount), arena.array(of: Scalar.self, transferCount),
          arena.array(of: Scalar.self, gradient == nil ? 0 : tile.keys.sumScratchCount)
        )
      }
      if !isFilled && isSymmetric {
        fillAsPairs(first..<first + count, values, spare: spare, cancelled: integers, scratch: transfer)
      } else if !isFilled {
        tile.fill(
          rows: first..<first + count, columns: 0..<columns, values, stride: columns, cancelled: integers)
      }
      for row in 0..<count {
        results[first + row] = body(first + row, values + row * columns, scalars, integers)
      }
      if let gradient {
        tile.keys.add(
          0..<columns, weightedBy: Factor(UnsafePointer(values), stride: max(1, columns)),
          to: gradient[first..<first + count], tile.kernels, scratch: panels)
      }
    }
  }

  /// Fills a block of rows with the same products as ``PairMatrix``, since those of BLAS may differ in the last bit from
  /// one tile to another: a loss that chooses among distances makes the same choice whatever the workspace budget.
  private func fillAsPairs(
    _ rows: Range<Int>, _ output: UnsafeMutablePointer<Scalar>, spare: UnsafeMutablePointer<Scalar>,
    cancelled: UnsafeMutablePointer<Int32>, scratch: UnsafeMutablePointer<Scalar>
  ) {
    let blocks = BlockPartition(of: tile.keys.rows, blockSize: blockSize)
    for block in 0..<blocks.blocks {
      let columns = blocks[block]
      let part = output + columns.lowerBound
      if columns.lowerBound > rows.lowerBound {
        tile.fill(rows: rows, columns: columns, part, stride: tile.keys.rows, cancelled: cancelled)
        continue
      }
      let isDiagonal = columns == rows
      if isDiagonal {
        tile.fillDiagonal(rows, spare, stride: spareStride, cancelled: cancelled, scratch: scratch)
      } else {
        tile.fill(rows: columns, columns: rows, spare, stride: spareStride, cancelled: cancelled)
      }
      tile.kernels.distances.transfer(
        TileTransfer(
          tile: UnsafePointer(spare), stride: spareStride, rows: columns.count, columns: rows.count, output: part,
          outputStride: tile.keys.rows, isTransposed: !isDiagonal, streams: false, scratch: scratch))
    }
  }

  // MARK: The keys' side

  private func addToKeys(_ rows: Range<Int>, _ gradient: RowMajor<Scalar>) {
    let columns = tile.keys.rows
    let blocks = BlockPartition(of: columns, blockSize: Self.blockSize(columns))
    engine.forEachBlock(blocks.blocks) { block, workspace in
      let keys = blocks[block]
      let panels = workspace.buffer(of: Scalar.self, count: tile.queries.sumScratchCount)
      let weights = UnsafePointer(group + keys.lowerBound)
      if let columnSums {
        tile.kernels.rows.addColumns(weights, rows.count, columns, keys.count, columnSums + keys.lowerBound)
      }
      tile.queries.add(
        rows, weightedBy: Factor(weights, stride: max(1, columns), transposed: true), to: gradient[keys],
        tile.kernels, scratch: panels)
    }
  }
}

extension UnsafeMutablePointer<RowResult> {
  /// The results of `count` rows, added in order.
  func total(_ count: Int) -> RowResult {
    var total = RowResult()
    for row in 0..<count {
      total.loss += self[row].loss
      total.weightSum += self[row].weightSum
      total.weighted += self[row].weighted
      total.valid += self[row].valid
      total.active += self[row].active
    }
    return total
  }
}
