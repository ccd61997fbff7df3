import BatchLossFormulas
import BatchLossKernelInterface

/// Distances between all rows of one matrix and all rows of another, or of one matrix and itself.
///
/// d²ᵢⱼ = ‖xᵢ‖² + ‖yⱼ‖² − 2·xᵢ·yⱼ, with the inner products from BLAS in tiles. A mean is taken from all rows
/// first, and pairs whose difference still cancels are computed from xᵢ − yⱼ itself.
///
/// - Among the rows of one matrix, distances are symmetric to the bit, and half of them are computed.
/// - Distances are never negative; identical rows are at exactly 0. The cosine distance of two rows of zeros is
///   1, also on the diagonal.
/// - Accuracy in `Float` against float64: relative error within 1e-6 of pairs that are computed again (all that
///   are close for their length, near duplicates and large offsets among them).
/// - A NaN or infinity makes the distances of its own row NaN or infinite and no others.
/// - Work is rows · others · columns multiply-adds, half of that among the rows of one matrix; memory beside the output
///   is that of a copy of the inputs. The bits do not depend on the worker count.
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
  private static let tileSide = 256
  /// Rows that do not all fall on the same lines of a cache, with room for a whole vector at the end.
  private static let tileStride = tileSide + 16

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
    let streams = NonTemporal.isWorthwhile(output)
    try run(first.memory, second?.memory, engine) { block, _ in
      let (row, column) = (block.rows.lowerBound, block.columns.lowerBound)
      block.copy(to: output.pointer(row, column), stride: output.stride, streams: streams)
      guard block.hasMirror else { return }
      block.copy(to: output.pointer(column, row), stride: output.stride, transposed: true, streams: streams)
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
    try run(first.memory, second?.memory, engine) { block, spare in
      func hand(_ values: UnsafeMutablePointer<Scalar>, _ rows: Range<Int>, _ others: Range<Int>) {
        let memory = RowMajor(base: values, rows: rows.count, columns: others.count, stride: Self.tileStride)
        body(Tile(rows: rows, others: others, distances: MatrixView(memory: memory)))
      }
      hand(block.values, block.rows, block.columns)
      guard block.hasMirror else { return }
      block.copy(to: spare, stride: Self.tileStride, transposed: true, streams: false)
      hand(spare, block.columns, block.rows)
    }
  }

  // MARK: Tiles in parallel

  /// Distances of a block of rows, in scratch memory of a worker.
  private struct Block<Scalar: LossScalar> {
    let rows: Range<Int>
    let columns: Range<Int>
    let values: UnsafeMutablePointer<Scalar>
    let scratch: UnsafeMutablePointer<Scalar>
    /// Whether its transpose has a place in the matrix as well, and is computed nowhere else.
    let hasMirror: Bool
    let kernels: KernelTable<Scalar>

    func copy(
      to output: UnsafeMutablePointer<Scalar>, stride: Int, transposed: Bool = false, streams: Bool
    ) {
      kernels.distances.transfer(
        TileTransfer(
          tile: UnsafePointer(values), stride: PairwiseDistance.tileStride, rows: rows.count,
          columns: columns.count, output: output,
          outputStride: stride, isTransposed: transposed, streams: streams, scratch: scratch))
    }

    /// Copies what is above the diagonal below it: products of BLAS need not be symmetric in the last bit.
    func mirror() {
      let stride = PairwiseDistance.tileStride
      for row in 1..<max(1, rows.count) {
        for column in 0..<row { values[row * stride + column] = values[column * stride + row] }
      }
    }
  }

  /// Calls `body` with every block, of two that mirror each other with one, and with room for another tile.
  private func run<Scalar: LossScalar>(
    _ first: RowMajor<Scalar>, _ second: RowMajor<Scalar>?, _ engine: Engine,
    _ body: (Block<Scalar>, _ spare: UnsafeMutablePointer<Scalar>) -> Void
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
    engine.forEachBlock(rowBlocks.blocks * columnBlocks.blocks) { number, workspace in
      let (row, column) = (number / columnBlocks.blocks, number % columnBlocks.blocks)
      if second == nil && column < row { return }
      let (values, spare, cancelled, scratch) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, Self.tileSide * Self.tileStride),
          arena.array(of: Scalar.self, Self.tileSide * Self.tileStride),
          arena.array(of: Int32.self, PairTile<Scalar>.columnsPerProduct),
          arena.array(of: Scalar.self, TileTransfer<Scalar>.scratchCount(rows: Self.tileSide))
        )
      }
      let (rows, columns) = (rowBlocks[row], columnBlocks[column])
      tile.fill(rows: rows, columns: columns, values, stride: Self.tileStride, cancelled: cancelled)
      let block = Block(
        rows: rows, columns: columns, values: values, scratch: scratch, hasMirror: second == nil && row != column,
        kernels: kernels)
      if second == nil && row == column { block.mirror() }
      body(block, spare)
    }
  }
}
