import BatchLossKernelInterface

/// Rows as right factors of inner products: their transposes, a block of rows after another.
struct KeyBlocks<Scalar: LossScalar> {
  enum Form {
    /// As columns, which BLAS need not put into its own order, or does in a third of the time that rows take.
    case columns
    /// In panels, for products that copy neither factor.
    case panels
  }

  /// With fewer queries blocks would be made for a use or two.
  static var fewestQueries: Int { 64 }

  private let form: Form
  private let blocks: BlockPartition
  private let depth: Int
  private let base: UnsafeMutablePointer<Scalar>

  init(rows: Int, depth: Int, blockSize: Int, _ form: Form, _ arena: inout Arena) {
    self.form = form
    self.depth = depth
    // A single block is as wide as it has whole vectors of rows.
    blocks = BlockPartition(of: rows, blockSize: min(blockSize, (rows + 15) & ~15))
    base = arena.array(of: Scalar.self, blocks.blocks * blocks.blockSize * depth)
  }

  /// Takes over rows that lie without gaps. Whole vectors of rows and of columns are read.
  func fill(from rows: UnsafePointer<Scalar>, _ kernels: KernelTable<Scalar>, _ engine: Engine) {
    let size = blocks.blockSize
    engine.forEachBlock(blocks.blocks) { block, workspace in
      let (scratch, spare) = workspace.arrays { arena in
        (
          arena.array(of: Scalar.self, TileTransfer<Scalar>.scratchCount(rows: size)),
          arena.array(of: Scalar.self, form == .panels ? depth * size : 0)
        )
      }
      let (block, output) = (blocks[block], memory(block))
      kernels.distances.transfer(
        TileTransfer(
          tile: rows + block.lowerBound * depth, stride: depth, rows: block.count, columns: depth,
          output: form == .panels ? spare : output, outputStride: size, isTransposed: true, streams: false,
          scratch: scratch))
      if form == .panels { kernels.products.pack(UnsafePointer(spare), size, depth, block.count, output) }
    }
  }

  private func memory(_ block: Int) -> UnsafeMutablePointer<Scalar> { base + block * blocks.blockSize * depth }

  /// result = left·(some rows)ᵀ; nothing where they lie in no single block, or begin or end within a panel.
  /// - Returns: Whether it was done.
  func multiply(
    _ left: Factor<Scalar>, _ rows: Range<Int>, to result: RowMajor<Scalar>, _ kernels: KernelTable<Scalar>
  ) -> Bool {
    guard !rows.isEmpty else { return false }
    let (block, place) = rows.lowerBound.quotientAndRemainder(dividingBy: blocks.blockSize)
    let end = blocks[block].upperBound
    guard rows.upperBound <= end else { return false }
    switch form {
    case .columns:
      MatrixProduct.runByParts(
        of: OpenBLAS.smallProduct(depth: depth), rows: result.rows, columns: rows.count, depth: depth, left,
        Factor(UnsafePointer(memory(block) + place), stride: blocks.blockSize), result.base,
        stride: result.stride)
    case .panels:
      let panel = ProductKernels<Scalar>.panelAlignment
      guard place.isMultiple(of: panel), rows.upperBound == end || rows.count.isMultiple(of: panel) else {
        return false
      }
      var product = PanelProduct(
        left: left.base, leftStride: left.stride, isTransposed: left.isTransposed, rows: result.rows,
        columns: rows.count, depth: depth, panels: UnsafePointer(memory(block) + place * depth), panelRows: depth,
        firstRow: 0, result: result.base, resultStride: result.stride)
      product.adds = false
      kernels.products.add(product)
    }
    return true
  }
}
