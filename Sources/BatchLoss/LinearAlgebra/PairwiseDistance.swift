import BatchLossFormulas
import BatchLossKernelInterface

/// Distances between all rows of one matrix and all rows of another, or of one matrix and itself.
///
/// d²ᵢⱼ = ‖xᵢ‖² + ‖yⱼ‖² − 2·xᵢ·yⱼ, with the inner products from BLAS in tiles. A mean is taken from all rows
/// first, and pairs whose difference still cancels are computed from xᵢ − yⱼ itself.
///
/// - The matrix of distances of a matrix from itself is symmetric to the bit, and half of it is computed; of tiles all are.
/// - Distances are never negative; identical rows are at exactly 0. The cosine distance of two rows of zeros is
///   1, also on the diagonal.
/// - Accuracy in `Float` against float64: relative error within 1e-6 of pairs that are computed again (all that
///   are close for their length, near duplicates and large offsets among them).
/// - A NaN or infinity makes the distances of its own row NaN or infinite and no others.
/// - Work is rows · others · columns multiply-adds; memory beside the output is that of a copy of the inputs.
///   The bits do not depend on the worker count.
public struct PairwiseDistance: Hashable, Sendable {
  /// The distance that is measured.
  public let distance: EmbeddingDistance

  /// Measures a distance.
  public init(_ distance: EmbeddingDistance = .euclidean) { self.distance = distance }

  /// One block of distances, for as long as the closure runs that it is handed to.
  public struct Tile<Scalar: LossScalar>: ~Escapable {
    /// The rows of the first matrix.
    public let rows: Range<Int>
    /// The rows of the second matrix.
    public let others: Range<Int>
    /// Their distances, `rows.count` × `others.count`.
    public let distances: MatrixView<Scalar>

    @_lifetime(copy distances)
    init(rows: Range<Int>, others: Range<Int>, distances: consuming MatrixView<Scalar>) {
      self.rows = rows
      self.others = others
      self.distances = distances
    }
  }

  /// 256 × 256 floats are half of a second-level cache of 512 KiB.
  private static var tileSide: Int { 256 }
  /// Rows that do not all fall on the same lines of a cache, with room for a whole vector at the end.
  private static var tileStride: Int { tileSide + 16 }

  // MARK: A whole matrix

  /// Writes the distances of every row of `first` from every row of `second` (of `first` itself if `nil`).
  ///
  /// - Parameters:
  ///   - first: `rows` × `columns`.
  ///   - second: `others` × `columns`.
  ///   - output: Receives `rows` × `others` distances.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match; nothing has been written then.
  public func evaluate<Scalar: LossScalar>(
    _ first: borrowing MatrixView<Scalar>, _ second: MatrixView<Scalar>? = nil,
    into output: consuming MutableMatrixView<Scalar>, engine: Engine = .shared
  ) throws(BatchLossError) {
    let output = output.memory
    try output.requireShape((first.rows, second?.rows ?? first.rows), "output")
    try MatrixProduct.validate(output, "output")
    let isSymmetric = second == nil
    let streams = NonTemporal.isWorthwhile(output)
    try run(first.memory, second?.memory, engine) { tile, rows, columns, workspace in
      // Of two tiles that mirror each other one is computed.
      if isSymmetric && columns.lowerBound < rows.lowerBound { return }
      let (values, cancelled, scratch) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, Self.tileSide * Self.tileStride),
          arena.array(of: Int32.self, PairTile<Scalar>.columnsPerProduct),
          arena.array(of: Scalar.self, TileTransfer<Scalar>.scratchCount(rows: Self.tileSide))
        )
      }
      tile.fill(rows: rows, columns: columns, values, stride: Self.tileStride, cancelled: cancelled)
      let isDiagonal = isSymmetric && columns.lowerBound == rows.lowerBound
      if isDiagonal { Self.mirror(values, rows.count) }
      var transfer = TileTransfer(
        tile: UnsafePointer(values), stride: Self.tileStride, rows: rows.count, columns: columns.count,
        output: output.pointer(rows.lowerBound, columns.lowerBound), outputStride: output.stride,
        isTransposed: false, streams: streams, scratch: scratch)
      tile.kernels.distances.transfer(transfer)
      guard isSymmetric && !isDiagonal else { return }
      transfer.isTransposed = true
      transfer.output = output.pointer(columns.lowerBound, rows.lowerBound)
      tile.kernels.distances.transfer(transfer)
    }
  }

  /// Copies what is above the diagonal of a tile below it: products of BLAS need not be symmetric in the last bit.
  private static func mirror<Scalar>(_ values: UnsafeMutablePointer<Scalar>, _ count: Int) {
    for row in 1..<max(1, count) {
      for column in 0..<row { values[row * tileStride + column] = values[column * tileStride + row] }
    }
  }

  /// The distances in a new matrix.
  public func callAsFunction<Scalar: LossScalar>(
    _ first: borrowing MatrixView<Scalar>, _ second: MatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> Matrix<Scalar> {
    var output = try Matrix<Scalar>(rows: first.rows, columns: second?.rows ?? first.rows)
    try evaluate(first, second, into: output.mutableView, engine: engine)
    return output
  }

  // MARK: Tiles

  /// Hands every tile of distances to `body`, without ever holding the whole matrix.
  ///
  /// Tiles come in any order, several at the same time from different threads. Their borders depend on the
  /// shape alone.
  /// - Throws: ``BatchLossError`` for shapes that do not match; `body` has not been called then.
  public func forEachTile<Scalar: LossScalar>(
    _ first: borrowing MatrixView<Scalar>, _ second: MatrixView<Scalar>? = nil, engine: Engine = .shared,
    _ body: @Sendable (borrowing Tile<Scalar>) -> Void
  ) throws(BatchLossError) {
    try run(first.memory, second?.memory, engine) { tile, rows, columns, workspace in
      let (values, cancelled) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, Self.tileSide * Self.tileSide),
          arena.array(of: Int32.self, PairTile<Scalar>.columnsPerProduct)
        )
      }
      tile.fill(rows: rows, columns: columns, values, stride: columns.count, cancelled: cancelled)
      let memory = RowMajor(base: values, rows: rows.count, columns: columns.count, stride: columns.count)
      body(Tile(rows: rows, others: columns, distances: MatrixView(memory: memory)))
    }
  }

  // MARK: Tiles in parallel

  private func run<Scalar: LossScalar>(
    _ first: RowMajor<Scalar>, _ second: RowMajor<Scalar>?, _ engine: Engine,
    _ body: (PairTile<Scalar>, _ rows: Range<Int>, _ columns: Range<Int>, Workspace) -> Void
  ) throws(BatchLossError) {
    try MatrixProduct.validate(first, "first")
    if let second {
      try MatrixProduct.validate(second, "second")
      try second.requireShape((second.rows, first.columns), "second")
    }
    let kernels = try KernelSelection.current.table(Scalar.self)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let preparation = distance.preparation
    let (queries, keys, centre) = workspace.arrays { arena in
      let queries = PackedRows(first, preparation, &arena)
      let keys = second.map { PackedRows($0, preparation, &arena) } ?? queries
      return (queries, keys, arena.array(of: Scalar.self, first.columns))
    }
    if preparation == .centering { keys.findCentre(kernels, engine, into: centre) }
    queries.prepare(kernels, engine, offset: UnsafePointer(centre))
    if second != nil { keys.prepare(kernels, engine, offset: UnsafePointer(centre)) }
    let tile = PairTile(queries: queries, keys: keys, distance: distance, kernels: kernels)
    let rowBlocks = BlockPartition(of: queries.rows, blockSize: Self.tileSide)
    let columnBlocks = BlockPartition(of: keys.rows, blockSize: Self.tileSide)
    engine.forEachBlock(rowBlocks.blocks * columnBlocks.blocks) { block, workspace in
      body(tile, rowBlocks[block / columnBlocks.blocks], columnBlocks[block % columnBlocks.blocks], workspace)
    }
  }
}
