import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``ContrastiveLoss`` on all pairs of a labelled batch.
///
/// A pair costs the same from both sides, so each is looked at once, and its weight goes to both rows.
struct ContrastiveBatchEvaluation<Scalar: LossScalar> {
  let form: ContrastiveForm
  let batch: LabelledBatch<Scalar>

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  func run(_ classes: UnsafeBufferPointer<Int32>) throws(BatchLossError) -> MiningResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let (count, engine) = (batch.embeddings.rows, batch.engine)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let (sweep, labels, results, centre) = workspace.arrays { arena in
      let rows = PackedRows(batch.embeddings, batch.distance.preparation, &arena)
      let tile = PairTile(queries: rows, keys: rows, distance: batch.distance, kernels: kernels)
      return (
        TileSweep(tile, engine: engine, isSymmetric: true, &arena), BatchLabels<Scalar>(count: count, &arena),
        arena.array(of: RowResult.self, count), arena.array(of: Scalar.self, batch.embeddings.columns)
      )
    }
    let rows = sweep.tile.queries
    labels.fill(numbers: classes)
    rows.prepareForDistances(kernels, engine, centre: centre)
    results.initialize(repeating: RowResult(), count: count)
    batch.gradient?.fill(0)
    sweep.run(queryGradient: batch.gradient, keyGradient: batch.gradient) { tile in
      if tile.isDiagonal {
        for row in tile.rows { addOwn(row, tile, labels, kernels, results + row) }
      } else {
        for row in tile.rows { add(row, tile, labels, kernels, results + row) }
        for column in 0..<tile.columns.count {
          let result = results + (tile.columns.lowerBound + column)
          result.pointee.loss += Double(tile.columnSums[column])
          result.pointee.weightSum += Double(tile.columnProducts[column])
        }
      }
    }

    // Every loss is in the sums of both rows.
    var total = RowResult()
    for row in 0..<count {
      total.loss += results[row].loss
      total.active += results[row].active
      batch.losses?[row] = Scalar(0.5 * results[row].loss)
    }
    let valid = Int(Double(count) * Double(count - 1) / 2)
    let divisor = batch.divisor(valid: valid, active: total.active / 2)
    if let gradient = batch.gradient {
      batch.finish(gradient, rows, kernels, factor: divisor == 0 ? 0 : 2 / divisor) { results[$0].weightSum }
    }
    return MiningResult(
      cost: Cost(sum: 0.5 * total.loss, denominator: divisor), valid: valid, active: total.active / 2)
  }

  /// A row against rows of another block.
  private func add(
    _ row: Int, _ tile: TileSweep<Scalar>.Tile, _ labels: BatchLabels<Scalar>, _ kernels: KernelTable<Scalar>,
    _ result: UnsafeMutablePointer<RowResult>
  ) {
    let sums = kernels.contrastive.row(
      ContrastiveRowArguments(
        form: form, row: tile.row(row), labels: UnsafePointer(labels.values + tile.columns.lowerBound),
        label: labels.values[row], count: tile.columns.count, columnWeights: tile.columnProducts,
        columnLosses: tile.columnSums))
    result.pointee.loss += sums.loss
    result.pointee.weightSum += sums.weightSum
    result.pointee.active += 2 * sums.active
  }

  /// A row against rows of its own block, itself left out.
  private func addOwn(
    _ row: Int, _ tile: TileSweep<Scalar>.Tile, _ labels: BatchLabels<Scalar>, _ kernels: KernelTable<Scalar>,
    _ result: UnsafeMutablePointer<RowResult>
  ) {
    let (values, start) = (tile.row(row), tile.columns.lowerBound)
    values[row - start] = 0
    for columns in [start..<row, row + 1..<tile.columns.upperBound] {
      let sums = kernels.contrastive.row(
        ContrastiveRowArguments(
          form: form, row: values + (columns.lowerBound - start),
          labels: UnsafePointer(labels.values + columns.lowerBound), label: labels.values[row],
          count: columns.count))
      result.pointee.loss += sums.loss
      result.pointee.weightSum += sums.weightSum
      result.pointee.active += sums.active
    }
  }
}
