import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``SupConLoss``.
///
/// Similarities are symmetric, and so are e^(a·s − shift): half of the tiles give the normalisers Z of all rows in one
/// sweep, and in a second the weights of both halves, e·(1/Zᵢ + 1/Zⱼ) − 2/|P| for pairs of one label, and with them the
/// gradient. Tiles are held in between where they fit the workspace budget, and computed again otherwise.
///
/// Long ranges of logits take the way of whole rows, and so do small batches: there is little to gain, and losses near 0,
/// which few rows can have, keep more digits when the largest logit of a row is its shift.
struct SupConEvaluation<Scalar: LossScalar> {
  let similarity: SimilarityEvaluation<Scalar>

  /// Rows below which a batch is evaluated by rows.
  private static var fewRows: Int { 128 }

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  func run(_ classes: UnsafeBufferPointer<Int32>) throws(BatchLossError) -> SimilarityResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let (count, engine, scale) = (similarity.queries.rows, similarity.engine, similarity.scale)
    guard count >= Self.fewRows else { return try runRows(classes) }
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let holdsTiles =
      similarity.wantsGradient && TileSweep<Scalar>.fits(rows: count, columns: count, isSymmetric: true, engine)
    let (sweep, labels, sums, factors, classSum) = workspace.arrays { arena in
      let rows = PackedRows(similarity.queries, similarity.normalizes ? .normalization : .none, &arena)
      let tile = PairTile(queries: rows, keys: rows, distance: nil, kernels: kernels)
      return (
        TileSweep(tile, engine: engine, isSymmetric: true, holdsTiles: holdsTiles, &arena),
        BatchLabels<Scalar>(count: count, &arena), arena.array(of: ExponentialSums.self, count),
        arena.array(of: Scalar.self, count), arena.array(of: Scalar.self, rows.columns)
      )
    }
    let rows = sweep.tile.queries
    rows.prepare(kernels, engine)
    guard let shift = SharedShift.find(rows, rows, scale: scale, kernels) else { return try runRows(classes) }
    labels.fill(numbers: classes)
    sums.initialize(repeating: ExponentialSums(), count: count)
    let a = Scalar(scale)
    sweep.run { tile in
      exponentials(sweep, tile, a, shift, sumsColumns: true) { row, sum, product in
        sums[row].sum += sum
        sums[row].product += product
      }
      for column in tile.columns {
        sums[column].sum += Double(tile.columnSums[column - tile.columns.lowerBound])
        sums[column].product += Double(tile.columnProducts[column - tile.columns.lowerBound])
      }
    }

    var total = RowResult()
    forEachMean(rows, labels, kernels, classSum) { row, mean in
      let loss = notNegative(logarithm(sums[row].sum) + Double(shift) - scale * mean)
      total.loss += loss
      total.weighted += sums[row].product / sums[row].sum - mean
      total.valid += 1
      if loss > 0 { total.active += 1 }
      similarity.losses?[row] = Scalar(loss)
      factors[row] = Scalar(1 / sums[row].sum)
    } otherwise: { row in
      similarity.losses?[row] = 0
      factors[row] = 0
    }
    if let gradient = similarity.queryGradient {
      gradient.fill(0)
      sweep.run(from: holdsTiles ? .held : .pairs, queryGradient: gradient, keyGradient: gradient) { tile in
        if !holdsTiles { exponentials(sweep, tile, a, shift, sumsColumns: false) { _, _, _ in } }
        let start = tile.columns.lowerBound
        for row in tile.rows {
          let positives = labels.positives(of: row)
          kernels.similarities.scaleByRowAndColumn(
            tile.row(row), tile.columns.count, factors[row], UnsafePointer(factors + start),
            UnsafePointer(labels.values + start), labels.values[row],
            positives > 0 ? Scalar(-2 / Double(positives)) : 0)
          if tile.isDiagonal { tile.row(row)[row - start] = 0 }
        }
      }
    }
    return similarity.finish(total, sweep.tile)
  }

  private func exponentials(
    _ sweep: TileSweep<Scalar>, _ tile: TileSweep<Scalar>.Tile, _ a: Scalar, _ shift: Scalar, sumsColumns: Bool,
    addRow: (Int, Double, Double) -> Void
  ) {
    if tile.isDiagonal {
      for row in tile.rows {
        _ = OwnPair(
          taking: tile.row(row) + (row - tile.columns.lowerBound), scale: similarity.scale, shift: shift)
      }
    }
    sweep.exponentials(tile, a, shift, sumsColumns: sumsColumns && !tile.isDiagonal, addRow: addRow)
  }

  /// The mean similarity of each row with its positives, from the sum of its class.
  private func forEachMean(
    _ rows: PackedRows<Scalar>, _ labels: BatchLabels<Scalar>, _ kernels: KernelTable<Scalar>,
    _ classSum: UnsafeMutablePointer<Scalar>, _ body: (Int, Double) -> Void, otherwise: (Int) -> Void
  ) {
    var first = 0
    while first < labels.count {
      let members = labels.members + first
      let size = Int(labels.sizes[Int(labels.classes[Int(members[0])])])
      if size == 1 {
        otherwise(Int(members[0]))
      } else {
        for column in 0..<rows.columns { classSum[column] = 0 }
        for index in 0..<size {
          kernels.rows.combine(
            1, UnsafePointer(classSum), 1, UnsafePointer(rows.pointer(Int(members[index]))), classSum, rows.columns)
        }
        for index in 0..<size {
          let row = UnsafePointer(rows.pointer(Int(members[index])))
          let sum =
            kernels.rows.dot(row, UnsafePointer(classSum), rows.columns) - kernels.rows.dot(row, row, rows.columns)
          body(Int(members[index]), sum / Double(size - 1))
        }
      }
      first += size
    }
  }

  /// A row of similarities after another, for logits of any range.
  private func runRows(_ classes: UnsafeBufferPointer<Int32>) throws(BatchLossError) -> SimilarityResult {
    let (count, scale) = (similarity.queries.rows, similarity.scale)
    return try similarity.run(fillLabels: { $0.fill(numbers: classes) }) { context in
      { row, similarities, _ in
        let (kernels, classes) = (context.kernels, context.labels)
        let positives = classes.positives(of: row)
        guard positives > 0 else {
          similarities.update(repeating: 0, count: count)
          return RowResult()
        }
        let same = ColumnSelection(
          .same, labels: UnsafePointer(classes.values), label: classes.values[row], excluded: row)
        let mean = kernels.similarities.sum(UnsafePointer(similarities), count, same).sum / Double(positives)
        let (logSum, expected) = kernels.softmax(
          similarities, count, scale, ColumnSelection(.all, excluded: row))
        kernels.similarities.scaleAdd(similarities, count, 1, Scalar(-1 / Double(positives)), same)
        return RowResult(ofOneLoss: logSum - scale * mean, weighted: expected - mean)
      }
    }
  }
}
