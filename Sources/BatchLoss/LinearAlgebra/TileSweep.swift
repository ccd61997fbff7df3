import BatchLossKernelInterface

/// All pairs of the rows of two matrices, or of one with itself, a tile at a time: its inner products or distances,
/// what a loss makes of them, and what they give to the gradients of both sides while the tile is in the cache.
///
/// Where rows are paired with themselves each unordered pair is computed once, which halves the first product. Tiles
/// whose weights are mostly 0, as those of pairs beyond a margin are, take no product for the gradients. The order of
/// additions is that of ``TileSchedule``, so the bits depend on the inputs and the workspace budget alone.
struct TileSweep<Scalar: LossScalar> {
  /// A tile at work, or some of its rows.
  struct Tile {
    let rows: Range<Int>
    let columns: Range<Int>
    /// `rows.count` × `columns.count`; a row may be read to the next whole vector.
    let values: UnsafeMutablePointer<Scalar>
    /// Where what is made of them goes: `values` itself, but where tiles are held.
    let output: UnsafeMutablePointer<Scalar>
    /// Of both.
    let stride: Int
    /// Whether `output` is better written past the cache.
    let streams: Bool
    /// Two arrays of as many scalars as there are columns, 0 at first.
    let columnSums: UnsafeMutablePointer<Scalar>
    let columnProducts: UnsafeMutablePointer<Scalar>

    /// Whether its rows are among its columns.
    let isDiagonal: Bool

    func row(_ row: Int) -> UnsafeMutablePointer<Scalar> { values + (row - rows.lowerBound) * stride }
    func outputRow(_ row: Int) -> UnsafeMutablePointer<Scalar> { output + (row - rows.lowerBound) * stride }
  }

  /// What a sweep starts from.
  enum Source {
    /// Products or distances, computed.
    case pairs
    /// What an earlier sweep has left in the tiles; only where all of them are held.
    case held
  }

  let tile: PairTile<Scalar>
  let engine: Engine
  private let schedule: TileSchedule
  /// All tiles, one after another.
  private let held: UnsafeMutablePointer<Scalar>?
  private let streamsHeld: Bool
  private let blockSize: Int

  /// 256 × 256 floats are half of a second-level cache of 512 KiB, and products of that size come near the processor's
  /// peak. Fewer rows make smaller tiles, so that workers share them.
  static func blockSize(_ rows: Int) -> Int { rows >= 2048 ? 256 : rows >= 512 ? 128 : 64 }

  /// Where rows are long, nearly all time goes into products, and blocks of rows and of their gradients pass through the
  /// caches half as often when tiles are twice as wide. But half as many can be worked on at a time, 8
  /// from 4096 rows on: so it is for an even number of them only, and not for pairs of a set with itself.
  private static func blockSize(_ rows: Int, depth: Int, isSymmetric: Bool) -> Int {
    let isWide = rows >= 4096 && (rows + 511) / 512 % 2 == 0 && depth >= 256 && Scalar.self == Float.self
    return isWide && !isSymmetric ? 512 : blockSize(rows)
  }

  /// Rows ready for a sweep over their tiles with themselves, or with as many others: what form they have as keys, if they
  /// are, and whether others have sums of them for gradients.
  static func pack(
    _ rows: RowMajor<Scalar>, _ preparation: RowPreparation, keys: KeyBlocks<Scalar>.Form?, areSummed: Bool,
    isSymmetric: Bool, _ engine: Engine, _ arena: inout Arena
  ) -> PackedRows<Scalar> {
    let fit = RowPanels.fit(rows, engine)
    let size = blockSize(rows.rows, depth: rows.columns, isSymmetric: isSymmetric)
    return PackedRows(
      rows, preparation, keyBlocks: fit ? keys.map { (size, $0) } : nil, rowPanels: fit && areSummed, &arena)
  }

  /// Rows of a tile that are handed out at once: more of them would cost sums of columns in `Float` too many digits.
  private static var bandRows: Int { 256 }

  /// Room for a whole vector beyond the last column; and rows that do not all fall on the same lines of a cache.
  private var stride: Int { blockSize + 16 }
  private var tileCount: Int { blockSize * stride }

  init(_ tile: PairTile<Scalar>, engine: Engine, isSymmetric: Bool, holdsTiles: Bool = false, _ arena: inout Arena)
  {
    self.tile = tile
    self.engine = engine
    let (rows, columns) = (tile.queries.rows, tile.keys.rows)
    blockSize = Self.blockSize(max(rows, columns), depth: tile.queries.columns, isSymmetric: isSymmetric)
    let rowBlocks = BlockPartition(of: rows, blockSize: blockSize).blocks
    schedule =
      isSymmetric
      ? TileSchedule(symmetric: rowBlocks)
      : TileSchedule(
        rowBlocks: rowBlocks, columnBlocks: BlockPartition(of: columns, blockSize: blockSize).blocks)
    let heldCount = holdsTiles ? schedule.count * blockSize * (blockSize + 16) : 0
    held = holdsTiles ? arena.array(of: Scalar.self, heldCount) : nil
    streamsHeld = heldCount * MemoryLayout<Scalar>.stride > Processor.lastLevelCacheBytes
  }

  /// Whether the values of all pairs fit the workspace budget, padding of tiles left out.
  static func fits(rows: Int, columns: Int, isSymmetric: Bool, _ engine: Engine) -> Bool {
    let (pairs, overflows) = rows.multipliedReportingOverflow(by: isSymmetric ? rows + 1 : columns)
    return !overflows
      && pairs / (isSymmetric ? 2 : 1) <= engine.configuration.workspaceBudget / MemoryLayout<Scalar>.stride
  }

  /// One pass over all tiles.
  ///
  /// - Parameters:
  ///   - queryGradient: Receives += W·K of the tiles that `body` leaves.
  ///   - keyGradient: Receives += Wᵀ·Q; the same matrix where rows are paired with themselves, whose diagonal tiles
  ///     have both halves and are added once.
  ///   - body: Turns the values of some rows of a tile into weights.
  func run(
    from source: Source = .pairs, queryGradient: RowMajor<Scalar>? = nil, keyGradient: RowMajor<Scalar>? = nil,
    body: (Tile) -> Void
  ) {
    let rowPartition = BlockPartition(of: tile.queries.rows, blockSize: blockSize)
    let columnPartition = BlockPartition(of: tile.keys.rows, blockSize: blockSize)
    let sumScratch = max(
      queryGradient == nil ? 0 : tile.keys.sumScratchCount, keyGradient == nil ? 0 : tile.queries.sumScratchCount)
    schedule.forEachTile(engine) { row, column, next, workspace in
      let (own, columnSums, columnProducts, cancelled, indices, scratch, panels) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, tileCount),
          arena.array(of: Scalar.self, blockSize), arena.array(of: Scalar.self, blockSize),
          arena.array(of: Int32.self, PairTile<Scalar>.columnsPerProduct),
          arena.array(of: Int32.self, blockSize),
          arena.array(of: Scalar.self, TileTransfer<Scalar>.scratchCount(rows: blockSize)),
          arena.array(of: Scalar.self, sumScratch)
        )
      }
      // Products are taken, and weights left, in the cache; what is held between two sweeps is only written or read.
      let kept = held.map { $0 + schedule.number(row: row, column: column) * tileCount } ?? own
      let ahead = next.flatMap { source == .held ? heldMemory($0.row, $0.column) : nil }
      let (values, output) = source == .held ? (kept, own) : (own, kept)
      let (rows, columns) = (rowPartition[row], columnPartition[column])
      let isDiagonal = schedule.isSymmetric && row == column
      switch source {
      case .pairs where isDiagonal:
        tile.fillDiagonal(rows, values, stride: stride, cancelled: cancelled, scratch: scratch)
      case .pairs: tile.fill(rows: rows, columns: columns, values, stride: stride, cancelled: cancelled)
      case .held: break
      }
      let bands = BlockPartition(of: rows.count, blockSize: Self.bandRows)
      for band in 0..<bands.blocks {
        let band = bands[band]
        columnSums.update(repeating: 0, count: columns.count)
        columnProducts.update(repeating: 0, count: columns.count)
        body(
          Tile(
            rows: rows.lowerBound + band.lowerBound..<rows.lowerBound + band.upperBound, columns: columns,
            values: values + band.lowerBound * stride, output: output + band.lowerBound * stride, stride: stride,
            streams: source == .pairs && streamsHeld, columnSums: columnSums, columnProducts: columnProducts,
            isDiagonal: isDiagonal))
      }
      addGradients(
        UnsafePointer(output), rows, columns, indices, panels, queryGradient, isDiagonal ? nil : keyGradient,
        ahead)
    }
  }

  /// A tile that was written past the caches.
  private func heldMemory(_ row: Int, _ column: Int) -> UnsafeRawBufferPointer? {
    guard let held, streamsHeld else { return nil }
    let tile = held + schedule.number(row: row, column: column) * tileCount
    return UnsafeRawBufferPointer(UnsafeBufferPointer(start: tile, count: tileCount))
  }

  private func addGradients(
    _ values: UnsafePointer<Scalar>, _ rows: Range<Int>, _ columns: Range<Int>,
    _ indices: UnsafeMutablePointer<Int32>, _ panels: UnsafeMutablePointer<Scalar>,
    _ queryGradient: RowMajor<Scalar>?, _ keyGradient: RowMajor<Scalar>?, _ ahead: UnsafeRawBufferPointer?
  ) {
    guard queryGradient != nil || keyGradient != nil else { return }
    if isSparse(values, rows, columns) {
      return addSparse(values, rows, columns, indices, queryGradient, keyGradient)
    }
    if let queryGradient {
      tile.keys.add(
        columns, weightedBy: Factor(values, stride: stride), to: queryGradient[rows], tile.kernels, scratch: panels,
        ahead: ahead)
    }
    if let keyGradient {
      tile.queries.add(
        rows, weightedBy: Factor(values, stride: stride, transposed: true), to: keyGradient[columns], tile.kernels,
        scratch: panels)
    }
  }

  /// Whether at most an eighth of the weights is not 0, as far as the first rows tell. At 128 columns one of them costs
  /// some 40 cycles by itself and 16 in a product.
  private func isSparse(_ values: UnsafePointer<Scalar>, _ rows: Range<Int>, _ columns: Range<Int>) -> Bool {
    var count = 0
    for row in 0..<rows.count {
      count += tile.kernels.rows.countNonzeros(values + row * stride, columns.count)
      // Most tiles that are not show it in a few rows.
      if count > (row / 8 + 1) * columns.count { return false }
    }
    return 8 * count <= rows.count * columns.count
  }

  private func addSparse(
    _ values: UnsafePointer<Scalar>, _ rows: Range<Int>, _ columns: Range<Int>,
    _ indices: UnsafeMutablePointer<Int32>, _ queryGradient: RowMajor<Scalar>?, _ keyGradient: RowMajor<Scalar>?
  ) {
    let kernels = tile.kernels.rows
    for row in rows {
      let weights = values + (row - rows.lowerBound) * stride
      let count = kernels.nonzeros(weights, columns.count, indices)
      guard count > 0 else { continue }
      let others = tile.keys.factor(columns.lowerBound)
      var arguments = SparseRowArguments(
        weights: weights, indices: UnsafePointer(indices), count: count,
        own: UnsafePointer(tile.queries.pointer(row)), others: others.base, othersStride: others.stride,
        columns: tile.queries.columns)
      arguments.ownGradient = queryGradient?.pointer(row, 0)
      arguments.otherGradients = keyGradient?.pointer(columns.lowerBound, 0)
      arguments.otherGradientsStride = keyGradient?.stride ?? 0
      kernels.addSparse(arguments)
    }
  }
}
