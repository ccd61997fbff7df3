import BatchLossKernelInterface

/// Rows in the order in which sums of them by weights are taken, a block of rows after another.
///
/// BLAS would copy them, and the weights, for every product.
struct RowPanels<Scalar: LossScalar> {
  private let blocks: BlockPartition
  private let base: UnsafeMutablePointer<Scalar>
  private let columns: Int

  /// Rows of a block where there is no reason for others.
  private static var blockRows: Int { 256 }

  /// Whether a copy of the rows, in whole vectors, is a small part of the workspace budget.
  static func fit(_ rows: RowMajor<Scalar>, _ engine: Engine) -> Bool {
    let count = ProductKernels<Scalar>.panelCount(rows: (rows.rows + 15) & ~15, columns: rows.columns)
    return count <= engine.configuration.workspaceBudget / 8 / MemoryLayout<Scalar>.stride
  }

  init(rows: Int, columns: Int, _ arena: inout Arena) {
    let count = ProductKernels<Scalar>.panelCount(rows: rows, columns: columns)
    self.init(rows: rows, columns: columns, blockSize: Self.blockRows, in: arena.array(of: Scalar.self, count))
  }

  /// In memory that the caller has, of ``ProductKernels/panelCount(rows:columns:)`` scalars or more.
  init(rows: Int, columns: Int, blockSize: Int, in memory: UnsafeMutablePointer<Scalar>) {
    blocks = BlockPartition(of: rows, blockSize: blockSize)
    self.columns = columns
    base = memory
  }

  private func panels(_ block: Range<Int>) -> UnsafeMutablePointer<Scalar> {
    base + ProductKernels<Scalar>.panelCount(rows: block.lowerBound, columns: columns)
  }

  /// Takes over all rows, which lie without gaps.
  func fill(from rows: UnsafePointer<Scalar>, _ kernels: KernelTable<Scalar>, _ engine: Engine) {
    engine.forEachBlock(blocks.blocks) { block, _ in
      fill(block, from: rows + blocks[block].lowerBound * columns, kernels)
    }
  }

  /// Takes over the rows of a block, which lie without gaps.
  func fill(_ block: Int, from rows: UnsafePointer<Scalar>, _ kernels: KernelTable<Scalar>) {
    kernels.products.pack(rows, columns, blocks[block].count, columns, panels(blocks[block]))
  }

  /// result += weights·(the rows of a range). `ahead` is what will be read next and is in no cache.
  func add(
    _ rows: Range<Int>, weightedBy weights: Factor<Scalar>, to result: RowMajor<Scalar>,
    _ kernels: KernelTable<Scalar>, ahead: UnsafeRawBufferPointer? = nil
  ) {
    var start = rows.lowerBound
    while start < rows.upperBound {
      let block = blocks[start / blocks.blockSize]
      let end = min(block.upperBound, rows.upperBound)
      Self.add(
        UnsafePointer(panels(block)), block.count, start - block.lowerBound..<end - block.lowerBound, columns,
        weightedBy: weights.advanced(alongDepth: start - rows.lowerBound), to: result, kernels,
        ahead: start == rows.lowerBound ? ahead : nil)
      start = end
    }
  }

  private static func add(
    _ panels: UnsafePointer<Scalar>, _ panelRows: Int, _ rows: Range<Int>, _ columns: Int,
    weightedBy weights: Factor<Scalar>, to result: RowMajor<Scalar>, _ kernels: KernelTable<Scalar>,
    ahead: UnsafeRawBufferPointer? = nil
  ) {
    var product = PanelProduct(
      left: weights.base, leftStride: weights.stride, isTransposed: weights.isTransposed, rows: result.rows,
      columns: columns, depth: rows.count, panels: panels, panelRows: panelRows, firstRow: rows.lowerBound,
      result: result.base, resultStride: result.stride)
    product.ahead = ahead
    kernels.products.add(product)
  }
}

// MARK: - Rows that are put into panels for one sum

extension RowPanels {
  private static var columnsAtOnce: Int { 512 }

  /// Scratch memory for sums of rows that are in no panels, whatever they are.
  static var scratchCount: Int { ProductKernels<Scalar>.panelCount(rows: blockRows, columns: columnsAtOnce) }

  /// result += weights·rows, with the bits of rows in panels whose blocks begin where these do.
  static func add(
    _ rows: RowMajor<Scalar>, weightedBy weights: Factor<Scalar>, to result: RowMajor<Scalar>,
    _ kernels: KernelTable<Scalar>, scratch: UnsafeMutablePointer<Scalar>
  ) {
    let blocks = BlockPartition(of: rows.rows, blockSize: blockRows)
    let parts = BlockPartition(of: rows.columns, blockSize: columnsAtOnce)
    for block in 0..<blocks.blocks {
      let block = blocks[block]
      for part in 0..<parts.blocks {
        let part = parts[part]
        kernels.products.pack(
          UnsafePointer(rows.pointer(block.lowerBound, part.lowerBound)), rows.stride, block.count, part.count,
          scratch)
        add(
          UnsafePointer(scratch), block.count, 0..<block.count, part.count,
          weightedBy: weights.advanced(alongDepth: block.lowerBound),
          to: RowMajor(
            base: result.pointer(0, part.lowerBound), rows: result.rows, columns: part.count,
            stride: result.stride), kernels)
      }
    }
  }
}
