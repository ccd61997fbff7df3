import BatchLossFormulas
import BatchLossKernelInterface

/// One call of a loss on the similarities of queries and keys, whose rows each have a loss of their own.
struct SimilarityEvaluation<Scalar: LossScalar> {
  /// What errors call an input and its gradient.
  typealias Names = (input: String, gradient: String)

  let queries: RowMajor<Scalar>
  let queryNames: Names
  /// `nil` where queries are compared with each other.
  let keys: RowMajor<Scalar>?
  let keyNames: Names
  let normalizes: Bool
  /// What derivatives by logits are multiplied by to be derivatives by similarities.
  let scale: Double
  let reduction: Reduction
  let denominator: Double?
  let losses: UnsafeMutableBufferPointer<Scalar>?
  let queryGradient: RowMajor<Scalar>?
  let keyGradient: RowMajor<Scalar>?
  let engine: Engine

  var wantsGradient: Bool { queryGradient != nil || keyGradient != nil }

  typealias Row = (
    _ row: Int, _ similarities: UnsafeMutablePointer<Scalar>, _ scratch: UnsafeMutablePointer<Scalar>
  ) -> RowResult

  /// What the losses of rows may use.
  struct Context {
    let kernels: KernelTable<Scalar>
    let queries: PackedRows<Scalar>
    let keys: PackedRows<Scalar>
    /// Filled when labels are given.
    let labels: BatchLabels<Scalar>
  }

  func validate() throws(BatchLossError) {
    try MatrixProduct.validate(queries, queryNames.input)
    if let keys {
      try MatrixProduct.validate(keys, keyNames.input)
      try keys.requireShape((keys.rows, queries.columns), keyNames.input)
    }
    if let losses { try requireCount(losses.count, queries.rows, "losses") }
    if let queryGradient {
      try queryGradient.requireShape(queries.shape, queryNames.gradient)
      try MatrixProduct.validate(queryGradient, queryNames.gradient)
    }
    if let keyGradient, let keys {
      try keyGradient.requireShape(keys.shape, keyNames.gradient)
      try MatrixProduct.validate(keyGradient, keyNames.gradient)
    }
    try validateDenominator(denominator)
  }

  func divisor(valid: Int, active: Int) -> Double {
    if let denominator { return denominator }
    switch reduction {
    case .mean, .meanOverCount: return Double(valid)
    case .sum: return 1
    case .batchMean: return Double(queries.rows)
    case .meanOverActive: return Double(active)
    }
  }

  var preparation: RowPreparation { normalizes ? .normalization : .none }

  /// Queries and as many keys for a sweep over their tiles.
  func tile(_ kernels: KernelTable<Scalar>, _ arena: inout Arena) -> PairTile<Scalar> {
    let first = TileSweep.pack(
      queries, preparation, keys: nil, areSummed: keyGradient != nil, isSymmetric: false, engine, &arena)
    let second = TileSweep.pack(
      keys ?? queries, preparation, keys: .panels, areSummed: queryGradient != nil, isSymmetric: false, engine,
      &arena)
    return PairTile(queries: first, keys: second, distance: nil, kernels: kernels)
  }

  /// Queries and keys for a sweep over whole rows.
  func rowTile(_ kernels: KernelTable<Scalar>, _ arena: inout Arena) -> PairTile<Scalar> {
    let isWorthwhile = queries.rows >= KeyBlocks<Scalar>.fewestQueries
    func pack(_ rows: RowMajor<Scalar>, areKeys: Bool, areSummed: Bool) -> PackedRows<Scalar> {
      let fit = RowPanels.fit(rows, engine)
      return PackedRows(
        rows, preparation,
        keyBlocks: fit && areKeys && isWorthwhile ? (PairTile<Scalar>.columnsPerProduct, .panels) : nil,
        rowPanels: fit && areSummed, &arena)
    }
    guard let keys else {
      let rows = pack(queries, areKeys: true, areSummed: queryGradient != nil)
      return PairTile(queries: rows, keys: rows, distance: nil, kernels: kernels)
    }
    return PairTile(
      queries: pack(queries, areKeys: false, areSummed: keyGradient != nil),
      keys: pack(keys, areKeys: true, areSummed: queryGradient != nil), distance: nil, kernels: kernels)
  }

  /// Runs the loss that `plan` makes of the prepared rows.
  ///
  /// - Parameters:
  ///   - fillLabels: Fills in the labels, if the loss has any.
  ///   - decay: λ of a penalty ½λ·‖x‖² that each query and key of a loss has beside it.
  func run(
    scratch: Int = 0, decay: Double = 0, fillLabels: (BatchLabels<Scalar>) -> Void = { _ in },
    plan: (Context) -> Row
  ) throws(BatchLossError) -> SimilarityResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let (sweep, labels) = workspace.arrays { arena in
      let tile = rowTile(kernels, &arena)
      return (
        RowSweep(tile, engine: engine, needsColumnSums: false, &arena),
        BatchLabels<Scalar>(count: queries.rows, &arena)
      )
    }
    let tile = sweep.tile
    tile.queries.prepare(kernels, engine)
    if keys != nil { tile.keys.prepare(kernels, engine) }
    fillLabels(labels)
    queryGradient?.fill(0)
    if keys != nil { keyGradient?.fill(0) }

    let row = plan(Context(kernels: kernels, queries: tile.queries, keys: tile.keys, labels: labels))
    sweep.run(
      scratch: (scratch, 0), queryGradient: queryGradient,
      keyGradient: keys == nil ? queryGradient : keyGradient
    ) { index, values, scalars, _ in
      var result = row(index, values, scalars)
      if decay != 0 {
        result.loss +=
          0.5 * decay * (Double(tile.queries.squaredNorms[index]) + Double(tile.keys.squaredNorms[index]))
        result.active = result.loss > 0 ? 1 : 0
      }
      return result
    }
    let total = sweep.results.total(sweep.tile.queries.rows)
    if let losses {
      for row in 0..<queries.rows { losses[row] = Scalar(sweep.results[row].loss) }
    }
    return finish(total, tile, decay: decay)
  }

  /// The cost, the derivatives by parameters, and gradients taken through normalisation.
  func finish(
    _ total: RowResult, _ tile: PairTile<Scalar>, decay: Double = 0, lossFactor: Double = 1
  ) -> SimilarityResult {
    let divisor = divisor(valid: total.valid, active: total.active)
    let factor = divisor == 0 ? 0 : lossFactor / divisor
    if let queryGradient { finish(queryGradient, tile.queries, tile.kernels, factor, decay) }
    if keys != nil, let keyGradient { finish(keyGradient, tile.keys, tile.kernels, factor, decay) }
    return SimilarityResult(
      cost: Cost(sum: lossFactor * total.loss, denominator: divisor), valid: total.valid, scale: scale,
      scaleGradient: wantsGradient ? total.weighted * factor : nil,
      biasGradient: wantsGradient ? total.weightSum * factor : nil)
  }

  private func finish(
    _ gradient: RowMajor<Scalar>, _ rows: PackedRows<Scalar>, _ kernels: KernelTable<Scalar>, _ factor: Double,
    _ decay: Double
  ) {
    guard factor != 0 else { return gradient.fill(0) }
    let partition = rows.partition
    engine.forEachBlock(partition.blocks) { block, _ in
      for row in partition[block] {
        let output = gradient.pointer(row, 0)
        rows.backPropagate(row, output, kernels, factor: factor * scale)
        if decay != 0 {
          kernels.rows.combine(
            1, UnsafePointer(output), Scalar(factor * decay), UnsafePointer(rows.pointer(row)), output, rows.columns
          )
        }
      }
    }
  }
}

extension KernelTable {
  /// Softmax over a row of similarities: turns it into probabilities of a·s over the selected columns, 0 elsewhere.
  /// - Returns: log Σ e^(a·s), and the mean of s under the probabilities.
  func softmax(
    _ row: UnsafeMutablePointer<Scalar>, _ count: Int, _ a: Double, _ selection: ColumnSelection<Scalar>
  ) -> (logSum: Double, mean: Double) {
    let shift = similarities.largest(UnsafePointer(row), count, Scalar(a), selection)
    guard shift > -.infinity else {
      row.update(repeating: 0, count: count)
      return (-.infinity, 0)
    }
    let total = similarities.exponentials(UnsafePointer(row), count, Scalar(a), shift, selection, row)
    rows.scale(UnsafePointer(row), nil, Scalar(1 / total.sum), row, count)
    return (Double(shift) + logarithm(total.sum), total.weighted / total.sum)
  }
}

extension RowResult {
  /// A row that has one loss, not negative by its formula.
  init(ofOneLoss loss: Double, weightSum: Double = 0, weighted: Double = 0) {
    self.init(
      loss: notNegative(loss), weightSum: weightSum, weighted: weighted, valid: 1, active: loss > 0 ? 1 : 0)
  }
}

/// A loss that is not negative by its formula, whatever rounding says; NaN stays NaN.
func notNegative(_ loss: Double) -> Double { loss < 0 ? 0 : loss }
