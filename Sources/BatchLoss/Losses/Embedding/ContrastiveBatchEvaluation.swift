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
    let (sweep, labels, sums, centre) = workspace.arrays { arena in
      let rows = TileSweep.pack(
        batch.embeddings, batch.distance.preparation, keys: .columns, areSummed: batch.gradient != nil,
        isSymmetric: true, engine, &arena)
      // The kernel takes roots of squares together with their inverses.
      let tile = PairTile(
        queries: rows, keys: rows, distance: batch.distance == .cosine ? .cosine : .squaredEuclidean,
        kernels: kernels)
      return (
        TileSweep(tile, engine: engine, isSymmetric: true, &arena), BatchLabels<Scalar>(count: count, &arena),
        arena.array(of: ContrastiveSums.self, count), arena.array(of: Scalar.self, batch.embeddings.columns)
      )
    }
    let rows = sweep.tile.queries
    labels.fill(numbers: classes)
    rows.prepareForDistances(kernels, engine, centre: centre)
    sums.initialize(repeating: ContrastiveSums(), count: count)
    batch.gradient?.fill(0)
    sweep.run(queryGradient: batch.gradient, keyGradient: batch.gradient) { tile in
      let (row, column) = (tile.rows.lowerBound, tile.columns.lowerBound)
      if tile.isDiagonal { for row in tile.rows { tile.row(row)[row - column] = 0 } }
      kernels.contrastive.tile(
        ContrastiveTile(
          form: form, values: tile.values, stride: tile.stride, rows: tile.rows.count, columns: tile.columns.count,
          rowLabels: UnsafePointer(labels.values + row), columnLabels: UnsafePointer(labels.values + column),
          rowSums: sums + row, columnWeights: tile.isDiagonal ? nil : tile.columnProducts,
          columnLosses: tile.isDiagonal ? nil : tile.columnSums))
      if !tile.isDiagonal {
        for column in tile.columns {
          sums[column].loss += Double(tile.columnSums[column - tile.columns.lowerBound])
          sums[column].weight += Double(tile.columnProducts[column - tile.columns.lowerBound])
        }
      }
    }

    // Every loss is in the sums of both rows, and counted twice.
    var total = ContrastiveSums()
    for row in 0..<count {
      total.loss += sums[row].loss
      total.active += sums[row].active
      batch.losses?[row] = Scalar(0.5 * sums[row].loss)
    }
    let valid = Int(Double(count) * Double(count - 1) / 2)
    let divisor = batch.divisor(valid: valid, active: total.active / 2)
    if let gradient = batch.gradient {
      batch.finish(gradient, rows, kernels, factor: divisor == 0 ? 0 : 2 / divisor) { sums[$0].weight }
    }
    return MiningResult(
      cost: Cost(sum: 0.5 * total.loss, denominator: divisor), valid: valid, active: total.active / 2)
  }
}
