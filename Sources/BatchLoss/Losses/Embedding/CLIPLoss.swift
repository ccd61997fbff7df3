import BatchLossFormulas
import BatchLossKernelInterface

/// Finds for each image its text and for each text its image: symmetric cross-entropy (Radford et al. 2021).
///
/// With s = x̂·ŷ (or x·y without normalisation) and the temperature τ:
///
/// cost = (1/2·rows)·Σᵢ ( log Σⱼ e^(sᵢⱼ/τ) + log Σⱼ e^(sⱼᵢ/τ) − 2·sᵢᵢ/τ )
///
/// The result holds the derivative by the scale 1/τ and by τ. Rows of zeros have similarity 0 to all and gradient 0.
/// Losses are in nats. While the similarities fit the engine's workspace budget they are computed once
/// (6·rows²·columns operations with gradients); beyond it they are computed twice in groups of rows, with the same
/// result up to rounding. The bits do not depend on the worker count.
public struct CLIPLoss: Hashable, Sendable {
  /// What similarities are divided by.
  public let temperature: Double
  /// Whether rows are divided by their length first.
  public let normalizes: Bool

  /// Creates the loss.
  /// - Throws: ``BatchLossError`` unless `temperature` is finite and greater than 0.
  public init(temperature: Double = 0.07, normalizes: Bool = true) throws(BatchLossError) {
    try requireTemperature(temperature)
    self.temperature = temperature
    self.normalizes = normalizes
  }

  /// The cost of pairs of rows.
  ///
  /// - Parameters:
  ///   - images: `rows` × `columns`.
  ///   - texts: As many; row i belongs to image i.
  ///   - reduction: What the sum of losses is divided by.
  ///   - denominator: Overrides the divisor.
  ///   - losses: Receives the loss of each row: the mean of its two directions.
  ///   - imageGradient: Receives the derivative of the cost by each image.
  ///   - textGradient: Receives the derivative of the cost by each text.
  ///   - engine: Workers and scratch memory.
  /// - Throws: ``BatchLossError`` for shapes that do not match or a bad denominator; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar>(
    images: borrowing MatrixView<Scalar>, texts: borrowing MatrixView<Scalar>, reduction: Reduction = .mean,
    denominator: Double? = nil, losses: consuming MutableSpan<Scalar>? = nil,
    imageGradient: consuming MutableMatrixView<Scalar>? = nil,
    textGradient: consuming MutableMatrixView<Scalar>? = nil, engine: Engine = .shared
  ) throws(BatchLossError) -> SimilarityResult {
    let evaluation = SimilarityEvaluation(
      queries: images.memory, keys: texts.memory, keysName: "texts", normalizes: normalizes,
      scale: 1 / temperature, reduction: reduction, denominator: denominator, losses: memory(of: &losses),
      queryGradient: memory(of: imageGradient), keyGradient: memory(of: textGradient), engine: engine)
    try texts.memory.requireShape(images.memory.shape, "texts")
    try evaluation.validate(queriesName: "images")
    return try evaluation.runBothDirections()
  }
}

extension SimilarityEvaluation {
  /// Cross-entropy along rows and along columns.
  ///
  /// The first sweep finds the normalisers: of a row by the worker that has the row, of a column, over one group of
  /// rows after another, by the worker that has the column. The second turns similarities into weights.
  fileprivate func runBothDirections() throws(BatchLossError) -> SimilarityResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let count = queries.rows
    let (bytes, overflows) = (count * MemoryLayout<Scalar>.stride).multipliedReportingOverflow(by: count)
    let holdsAll = !overflows && bytes <= engine.configuration.workspaceBudget
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let (sweep, rowShifts, positives, maxima, sums) = workspace.arrays { arena in
      let preparation: RowPreparation = normalizes ? .normalization : .none
      let first = PackedRows(queries, preparation, &arena)
      let second = keys.map { PackedRows($0, preparation, &arena) } ?? first
      let tile = PairTile(queries: first, keys: second, distance: nil, kernels: kernels)
      return (
        RowSweep(tile, engine: engine, holdsAllRows: holdsAll, needsColumnSums: false, &arena),
        arena.array(of: Double.self, count), arena.array(of: Double.self, count),
        arena.array(of: Scalar.self, count), arena.array(of: Double.self, count)
      )
    }
    let (tile, factor) = (sweep.tile, Scalar(scale))
    tile.queries.prepare(kernels, engine)
    tile.keys.prepare(kernels, engine)
    maxima.update(repeating: -.infinity, count: count)
    sums.update(repeating: 0, count: count)

    let columnBlocks = BlockPartition(of: count, blockSize: 256)
    sweep.run(scratch: (count, 0)) { rows, similarities in
      engine.forEachBlock(columnBlocks.blocks) { block, _ in
        let start = columnBlocks[block].lowerBound
        kernels.similarities.columns(
          UnsafePointer(similarities + start), rows.count, count, columnBlocks[block].count, factor, maxima + start,
          sums + start)
      }
    } body: { row, similarities, scratch, _ in
      let all = ColumnSelection<Scalar>(.all)
      let shift = kernels.similarities.largest(UnsafePointer(similarities), count, factor, all)
      let sum = kernels.similarities.exponentials(
        UnsafePointer(similarities), count, factor, shift, all, scratch
      ).sum
      rowShifts[row] = Double(shift) + logarithm(sum)
      positives[row] = Double(similarities[row])
      return RowResult()
    }

    var total = RowResult()
    for row in 0..<count {
      let columnShift = Double(maxima[row]) + logarithm(sums[row])
      maxima[row] = Scalar(columnShift)
      let loss = notNegative(rowShifts[row] + columnShift - 2 * scale * positives[row])
      losses?[row] = Scalar(0.5 * loss)
      total.loss += loss
      total.valid += 1
      if loss > 0 { total.active += 1 }
    }
    if wantsGradient {
      queryGradient?.fill(0)
      keyGradient?.fill(0)
      sweep.run(
        isFilled: holdsAll && count > 0, queryGradient: queryGradient, keyGradient: keyGradient
      ) { row, similarities, _, _ in
        let weighted = kernels.similarities.probabilities(
          similarities, count, factor, Scalar(rowShifts[row]), UnsafePointer(maxima))
        similarities[row] -= 2
        return RowResult(weighted: weighted - 2 * positives[row])
      }
      for row in 0..<count { total.weighted += sweep.results[row].weighted }
    }
    return finish(total, tile, lossFactor: 0.5)
  }
}
