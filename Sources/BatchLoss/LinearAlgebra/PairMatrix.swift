import BatchLossKernelInterface

/// The distances of all rows of a matrix from each other, held at once, and what a loss makes of them.
///
/// That takes half the products of a ``RowSweep``: a distance is computed for both of its rows, and what (i, j) and
/// (j, i) add to the gradient is put together before one product. Blocks depend on the shape alone, and a row of a
/// gradient is written by one worker.
struct PairMatrix<Scalar: LossScalar> {
  let tile: PairTile<Scalar>
  let engine: Engine
  let results: UnsafeMutablePointer<RowResult>
  private let values: UnsafeMutablePointer<Scalar>

  private var rows: Int { tile.queries.rows }
  private var stride: Int { Self.stride(rows) }
  private var blocks: BlockPartition { BlockPartition(of: rows, blockSize: TileSweep<Scalar>.blockSize(rows)) }

  /// Columns that are summed over in one product for the gradient.
  private static var depth: Int { 512 }
  /// Whole vectors, and one more, so that the rows do not all fall on the same lines of a cache.
  private static func stride(_ rows: Int) -> Int { (rows + 31) & ~15 }

  init(_ tile: PairTile<Scalar>, engine: Engine, _ arena: inout Arena) {
    self.tile = tile
    self.engine = engine
    let rows = tile.queries.rows
    values = arena.array(of: Scalar.self, Self.stride(rows) * Self.stride(rows))
    results = arena.array(of: RowResult.self, rows)
  }

  /// Whether the matrix fits the workspace budget, its padding left out.
  static func fits(rows: Int, _ engine: Engine) -> Bool {
    rows <= engine.configuration.workspaceBudget / MemoryLayout<Scalar>.stride / max(1, rows)
  }

  /// Turns the distances of every row into its loss and weights, in place.
  ///
  /// - Parameters:
  ///   - scratch: How many scalars and 32-bit integers `body` may use.
  func evaluate(
    scratch: (scalars: Int, integers: Int),
    body: (
      _ row: Int, _ values: UnsafeMutablePointer<Scalar>, _ scalars: UnsafeMutablePointer<Scalar>,
      _ integers: UnsafeMutablePointer<Int32>
    ) -> RowResult
  ) {
    measure()
    let few = BlockPartition(of: rows, blockSize: 16)
    engine.forEachBlock(few.blocks) { block, workspace in
      let (scalars, integers) = workspace.arrays { arena in
        (arena.array(of: Scalar.self, scratch.scalars), arena.array(of: Int32.self, scratch.integers))
      }
      for row in few[block] { results[row] = body(row, values + row * stride, scalars, integers) }
    }
  }

  private func measure() {
    let blocks = blocks
    engine.forEachBlock(blocks.blocks * blocks.blocks) { number, workspace in
      let (rows, columns) = (blocks[number / blocks.blocks], blocks[number % blocks.blocks])
      guard rows.lowerBound <= columns.lowerBound else { return }
      let (scratch, cancelled) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, TileTransfer<Scalar>.scratchCount(rows: blocks.blockSize)),
          arena.array(of: Int32.self, PairTile<Scalar>.columnsPerProduct)
        )
      }
      let square = place(rows.lowerBound, columns.lowerBound)
      if rows == columns {
        tile.fillDiagonal(rows, square, stride: stride, cancelled: cancelled, scratch: scratch)
      } else {
        tile.fill(rows: rows, columns: columns, square, stride: stride, cancelled: cancelled)
        tile.kernels.distances.transfer(
          TileTransfer(
            tile: UnsafePointer(square), stride: stride, rows: rows.count, columns: columns.count,
            output: place(columns.lowerBound, rows.lowerBound), outputStride: stride, isTransposed: true,
            streams: false, scratch: scratch))
      }
    }
  }

  private func place(_ row: Int, _ column: Int) -> UnsafeMutablePointer<Scalar> {
    values + row * stride + column
  }

  /// gradient = (W + Wᵀ)·X. Then `finish` gets every row of it and the sum of the row of W + Wᵀ.
  func writeGradient(
    _ gradient: RowMajor<Scalar>,
    finish: (_ row: Int, _ output: UnsafeMutablePointer<Scalar>, _ weightSum: Double) -> Void
  ) {
    let blocks = blocks
    let chunks = BlockPartition(of: rows, blockSize: Self.depth)
    let sumsStride = Self.depth + 16
    engine.forEachBlock(blocks.blocks) { block, workspace in
      let rows = blocks[block]
      let (sums, scratch, totals, panels) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, blocks.blockSize * sumsStride),
          arena.array(of: Scalar.self, MirrorSum<Scalar>.scratchCount),
          arena.array(of: Double.self, blocks.blockSize),
          arena.array(of: Scalar.self, tile.keys.sumScratchCount)
        )
      }
      gradient[rows].fill(0)
      totals.update(repeating: 0, count: rows.count)
      for chunk in 0..<chunks.blocks {
        let columns = chunks[chunk]
        tile.kernels.distances.addMirror(
          MirrorSum(
            tile: UnsafePointer(values + rows.lowerBound * stride + columns.lowerBound),
            mirror: UnsafePointer(values + columns.lowerBound * stride + rows.lowerBound), stride: stride,
            rows: rows.count, columns: columns.count, output: sums, outputStride: sumsStride, scratch: scratch))
        for row in 0..<rows.count {
          totals[row] += tile.kernels.sum(UnsafePointer(sums + row * sumsStride), columns.count)
        }
        tile.keys.add(
          columns, weightedBy: Factor(UnsafePointer(sums), stride: sumsStride), to: gradient[rows], tile.kernels,
          scratch: panels)
      }
      for row in rows { finish(row, gradient.pointer(row, 0), totals[row - rows.lowerBound]) }
    }
  }
}
