import BatchLossFormulas
import BatchLossKernelInterface

/// What a loss makes of a labelled batch: how many losses there are and the loss of one row.
struct BatchPlan<Scalar: LossScalar> {
  /// How many losses there are, known from the labels alone.
  let valid: Int
  /// The loss of a row of distances, which it replaces by derivatives by squared distance.
  let row:
    (
      _ row: Int, _ distances: UnsafeMutablePointer<Scalar>, _ scalars: UnsafeMutablePointer<Scalar>,
      _ integers: UnsafeMutablePointer<Int32>
    ) -> RowResult
}

/// The labels and kernels that a plan may use.
struct BatchContext<Scalar: LossScalar> {
  let labels: BatchLabels<Scalar>
  let kernels: KernelTable<Scalar>
}

/// One call of a loss on the distances of a labelled batch.
struct LabelledBatch<Scalar: LossScalar> {
  let embeddings: RowMajor<Scalar>
  let distance: EmbeddingDistance
  let reduction: Reduction
  let denominator: Double?
  let losses: UnsafeMutableBufferPointer<Scalar>?
  let gradient: RowMajor<Scalar>?
  let engine: Engine

  func validate(labels: Int) throws(BatchLossError) {
    try BatchLabels<Scalar>.validate(labels, rows: embeddings.rows)
    if let losses { try requireCount(losses.count, embeddings.rows, "losses") }
    try gradient?.requireShape(embeddings.shape, "gradient")
    try MatrixProduct.validate(embeddings, "embeddings")
    if let gradient { try MatrixProduct.validate(gradient, "gradient") }
    try validateDenominator(denominator)
  }

  func divisor(valid: Int, active: Int) -> Double {
    if let denominator { return denominator }
    switch reduction {
    case .mean, .meanOverCount: return Double(valid)
    case .sum: return 1
    case .batchMean: return Double(embeddings.rows)
    case .meanOverActive: return Double(active)
    }
  }

  /// Runs a loss whose every pair has a weight of its own.
  ///
  /// - Parameters:
  ///   - scratch: How many scalars and 32-bit integers the plan may use for a row.
  func run(
    _ classes: UnsafeBufferPointer<Int32>, scratch: (scalars: Int, integers: Int) = (0, 0),
    plan: (BatchContext<Scalar>) -> BatchPlan<Scalar>
  ) throws(BatchLossError) -> MiningResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let count = embeddings.rows
    let (rows, labels, centre, matrix, sweep) = workspace.arrays { arena in
      let keepsPanels = gradient != nil && RowPanels.fit(embeddings, engine)
      let rows = PackedRows(embeddings, distance.preparation, rowPanels: keepsPanels, &arena)
      let tile = PairTile(queries: rows, keys: rows, distance: distance, kernels: kernels)
      let fits = PairMatrix<Scalar>.fits(rows: count, engine)
      return (
        rows, BatchLabels<Scalar>(count: count, &arena), arena.array(of: Scalar.self, embeddings.columns),
        fits ? PairMatrix(tile, engine: engine, &arena) : nil,
        fits ? nil : RowSweep(tile, engine: engine, isSymmetric: true, needsColumnSums: gradient != nil, &arena)
      )
    }
    labels.fill(numbers: classes)
    rows.prepareForDistances(kernels, engine, centre: centre)
    let plan = plan(BatchContext(labels: labels, kernels: kernels))

    let results: UnsafeMutablePointer<RowResult>
    if let matrix {
      matrix.evaluate(scratch: scratch, body: plan.row)
      results = matrix.results
    } else {
      let sweep = sweep!
      sweep.columnSums?.update(repeating: 0, count: count)
      gradient?.fill(0)
      sweep.run(scratch: scratch, queryGradient: gradient, keyGradient: gradient, body: plan.row)
      results = sweep.results
    }

    let total = results.total(count)
    let divisor = divisor(valid: plan.valid, active: total.active)
    if let losses {
      for row in 0..<count { losses[row] = Scalar(results[row].loss) }
    }
    if let gradient {
      let factor = divisor == 0 ? 0 : 2 / divisor
      if let matrix, factor != 0 {
        matrix.writeGradient(gradient) { row, output, weightSum in
          finish(row, output, rows, kernels, factor: factor, weightSum: weightSum)
        }
      } else {
        finish(gradient, rows, kernels, factor: factor) { row in
          results[row].weightSum + (sweep?.columnSums?[row] ?? 0)
        }
      }
    }
    return MiningResult(
      cost: Cost(sum: total.loss, denominator: divisor), valid: plan.valid, active: total.active)
  }

  /// Σⱼ Wᵢⱼ·xⱼ → factor·Σⱼ Wᵢⱼ·(xᵢ − xⱼ), taken through the preparation of the rows.
  func finish(
    _ gradient: RowMajor<Scalar>, _ rows: PackedRows<Scalar>, _ kernels: KernelTable<Scalar>, factor: Double,
    weightSum: (Int) -> Double
  ) {
    guard factor != 0 else { return gradient.fill(0) }
    let partition = rows.partition
    engine.forEachBlock(partition.blocks) { block, _ in
      for row in partition[block] {
        finish(row, gradient.pointer(row, 0), rows, kernels, factor: factor, weightSum: weightSum(row))
      }
    }
  }

  private func finish(
    _ row: Int, _ output: UnsafeMutablePointer<Scalar>, _ rows: PackedRows<Scalar>, _ kernels: KernelTable<Scalar>,
    factor: Double, weightSum: Double
  ) {
    kernels.rows.combine(
      Scalar(weightSum), UnsafePointer(rows.pointer(row)), -1, UnsafePointer(output), output, rows.columns)
    rows.backPropagate(row, output, kernels, factor: factor)
  }
}
