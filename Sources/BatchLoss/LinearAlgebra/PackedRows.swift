import BatchLossFormulas
import BatchLossKernelInterface

/// What is done to rows before their products are taken.
enum RowPreparation {
  /// Nothing.
  case none
  /// The same vector, a mean, is taken from every row, which changes no difference of rows.
  case centering
  /// Every row is divided by its length; rows of zeros stay.
  case normalization
}

/// Rows without gaps, ready for products, with their squared lengths.
struct PackedRows<Scalar: LossScalar> {
  /// The rows as they came.
  let source: RowMajor<Scalar>
  let preparation: RowPreparation
  let base: UnsafeMutablePointer<Scalar>
  private let keyBlocks: KeyBlocks<Scalar>?
  private let rowPanels: RowPanels<Scalar>?
  /// ‖x‖² of the prepared rows, summed in float64. Of a row of zeros that was to be normalised 1, so that its
  /// cosine distance from all others is 1.
  let squaredNorms: UnsafeMutablePointer<Scalar>
  /// 1/‖x‖ of rows that were normalised, 0 for rows of zeros.
  let inverseNorms: UnsafeMutablePointer<Scalar>

  var rows: Int { source.rows }
  var columns: Int { source.columns }

  /// - Parameters:
  ///   - keyBlocks: How they are kept as right factors of products too, `size` rows at a time; `nil` if they are not.
  ///   - rowPanels: Whether they are kept in panels for sums by weights.
  init(
    _ source: RowMajor<Scalar>, _ preparation: RowPreparation,
    keyBlocks: (size: Int, form: KeyBlocks<Scalar>.Form)? = nil, rowPanels: Bool = false, _ arena: inout Arena
  ) {
    self.source = source
    self.preparation = preparation
    // Transposition reads whole vectors of rows and columns.
    let padding = keyBlocks == nil ? 0 : 15 * (source.columns + 1)
    base = arena.array(of: Scalar.self, source.rows * source.columns + padding)
    self.keyBlocks = keyBlocks.map {
      KeyBlocks(rows: source.rows, depth: source.columns, blockSize: $0.size, $0.form, &arena)
    }
    self.rowPanels = rowPanels ? RowPanels(rows: source.rows, columns: source.columns, &arena) : nil
    squaredNorms = arena.array(of: Scalar.self, source.rows)
    inverseNorms = arena.array(of: Scalar.self, source.rows)
  }

  func pointer(_ row: Int) -> UnsafeMutablePointer<Scalar> { base + row * columns }

  func factor(_ row: Int) -> Factor<Scalar> { Factor(UnsafePointer(pointer(row)), stride: max(1, columns)) }

  /// result = left·(some rows)ᵀ.
  func multiply(
    _ left: Factor<Scalar>, _ rows: Range<Int>, to result: RowMajor<Scalar>, _ kernels: KernelTable<Scalar>
  ) {
    if let keyBlocks, keyBlocks.multiply(left, rows, to: result, kernels) { return }
    MatrixProduct.run(
      rows: result.rows, columns: rows.count, depth: columns, left,
      Factor(UnsafePointer(pointer(rows.lowerBound)), stride: max(1, columns), transposed: true), adds: false,
      result.base, stride: result.stride)
  }

  /// Scratch memory for sums of rows.
  var sumScratchCount: Int { rowPanels == nil ? RowPanels<Scalar>.scratchCount : 0 }

  /// result += weights·(some rows); `scratch` has ``sumScratchCount`` scalars, and `ahead` is what will be read or written
  /// next and is in no cache.
  func add(
    _ rows: Range<Int>, weightedBy weights: Factor<Scalar>, to result: RowMajor<Scalar>,
    _ kernels: KernelTable<Scalar>, scratch: UnsafeMutablePointer<Scalar>, ahead: UnsafeRawBufferPointer? = nil
  ) {
    if let rowPanels { return rowPanels.add(rows, weightedBy: weights, to: result, kernels, ahead: ahead) }
    let own = RowMajor(base: pointer(rows.lowerBound), rows: rows.count, columns: columns, stride: columns)
    RowPanels.add(own, weightedBy: weights, to: result, kernels, scratch: scratch)
  }

  /// Rows a block of the passes over single rows.
  var partition: BlockPartition { BlockPartition(of: rows, blockSize: max(1, 32768 / max(1, columns))) }

  /// Fills the memory. `offset` is what centring takes from each row.
  func prepare(_ kernels: KernelTable<Scalar>, _ engine: Engine, offset: UnsafePointer<Scalar>? = nil) {
    engine.forEachBlock(partition.blocks) { block, _ in
      for row in partition[block] {
        let (input, output) = (UnsafePointer(source.pointer(row, 0)), pointer(row))
        var factor = Scalar(1)
        if preparation == .normalization {
          let norm = kernels.rows.dot(input, input, columns).squareRoot()
          factor = norm > 0 ? Scalar(1 / norm) : norm == 0 ? 0 : .nan
          inverseNorms[row] = factor
        }
        kernels.rows.scale(input, preparation == .centering ? offset : nil, factor, output, columns)
        let square = kernels.rows.dot(UnsafePointer(output), UnsafePointer(output), columns)
        squaredNorms[row] = preparation == .normalization && square == 0 ? 1 : Scalar(square)
      }
    }
    keyBlocks?.fill(from: UnsafePointer(base), kernels, engine)
    rowPanels?.fill(from: UnsafePointer(base), kernels, engine)
  }

  /// A centre of all rows into `centre`: their mean, rounded to a sixteenth of their spread, so that numbers on a
  /// grid stay on one and their products exact. 0 in columns where the mean is not finite.
  func findCentre(
    _ kernels: KernelTable<Scalar>, _ engine: Engine, into centre: UnsafeMutablePointer<Scalar>
  ) {
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let parts = BlockPartition(of: rows, blockSize: max(256, (rows + 63) / 64))
    let sums = workspace.buffer(of: Double.self, count: parts.blocks * columns)
    sums.update(repeating: 0, count: parts.blocks * columns)
    engine.forEachBlock(parts.blocks) { part, _ in
      kernels.rows.addColumns(
        UnsafePointer(source.pointer(parts[part].lowerBound, 0)), parts[part].count, source.stride, columns,
        sums + part * columns)
    }
    for column in 0..<columns {
      var sum = 0.0
      for part in 0..<parts.blocks { sum += sums[part * columns + column] }
      let mean = sum / Double(max(1, rows))
      centre[column] = mean.isFinite ? Scalar(mean) : 0
    }
    let partition = partition
    let square = engine.sum(overBlocks: partition.blocks) { block, _ in
      var total = PartialSums()
      for row in partition[block] {
        let square = kernels.rows.squaredDistance(
          UnsafePointer(source.pointer(row, 0)), UnsafePointer(centre), columns)
        if square.isFinite { total.sum += square }
      }
      return total
    }
    let spread = (square.sum / Double(max(1, rows * columns))).squareRoot()
    guard spread.isNormal else { return }
    let grid = Double(sign: .plus, exponent: spread.exponent - 4, significand: 1)
    for column in 0..<columns {
      let rounded = Scalar((Double(centre[column]) / grid).rounded() * grid)
      if rounded.isFinite { centre[column] = rounded }
    }
  }

  /// Prepares rows for distances among themselves. `centre` has room for a row.
  func prepareForDistances(
    _ kernels: KernelTable<Scalar>, _ engine: Engine, centre: UnsafeMutablePointer<Scalar>
  ) {
    if preparation == .centering { findCentre(kernels, engine, into: centre) }
    prepare(kernels, engine, offset: UnsafePointer(centre))
  }

  /// Turns ∂/∂(prepared row) into `factor`·∂/∂(row), in place.
  func backPropagate(
    _ row: Int, _ gradient: UnsafeMutablePointer<Scalar>, _ kernels: KernelTable<Scalar>, factor: Double
  ) {
    guard preparation == .normalization else {
      return kernels.rows.scale(UnsafePointer(gradient), nil, Scalar(factor), gradient, columns)
    }
    let unit = UnsafePointer(pointer(row))
    let along = kernels.rows.dot(UnsafePointer(gradient), unit, columns)
    let scale = factor * Double(inverseNorms[row])
    guard scale != 0 else { return gradient.update(repeating: 0, count: columns) }
    kernels.rows.combine(
      Scalar(scale), UnsafePointer(gradient), Scalar(-scale * along), unit, gradient, columns)
  }
}
