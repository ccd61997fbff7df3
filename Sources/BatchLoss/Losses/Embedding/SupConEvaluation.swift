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
    let (sweep, labels, sums, factors, results) = workspace.arrays { arena in
      let rows = TileSweep.pack(
        similarity.queries, similarity.preparation, keys: .panels, areSummed: similarity.wantsGradient,
        isSymmetric: true, engine, &arena)
      let tile = PairTile(queries: rows, keys: rows, distance: nil, kernels: kernels)
      return (
        TileSweep(tile, engine: engine, isSymmetric: true, holdsTiles: holdsTiles, &arena),
        BatchLabels<Scalar>(count: count, &arena), arena.array(of: ExponentialSums.self, count),
        arena.array(of: Scalar.self, count), arena.array(of: RowResult.self, count)
      )
    }
    let rows = sweep.tile.queries
    rows.prepare(kernels, engine)
    guard let shift = SharedShift.find(rows, rows, scale: scale, kernels) else { return try runRows(classes) }
    labels.fill(numbers: classes)
    sums.initialize(repeating: ExponentialSums(), count: count)
    let a = Scalar(scale)
    sweep.run { tile in
      exponentials(sweep, tile, a, shift, sumsColumns: true, rowSums: sums)
      for column in tile.columns {
        sums[column].sum += Double(tile.columnSums[column - tile.columns.lowerBound])
        sums[column].product += Double(tile.columnProducts[column - tile.columns.lowerBound])
      }
    }

    forEachMean(rows, labels, kernels) { row, mean in
      guard let mean else {
        results[row] = RowResult()
        factors[row] = 0
        return
      }
      let loss = notNegative(logarithm(sums[row].sum) + Double(shift) - scale * mean)
      results[row] = RowResult(ofOneLoss: loss, weighted: sums[row].product / sums[row].sum - mean)
      factors[row] = Scalar(1 / sums[row].sum)
    }
    for row in 0..<count { similarity.losses?[row] = Scalar(results[row].loss) }
    if let gradient = similarity.queryGradient {
      gradient.fill(0)
      sweep.run(from: holdsTiles ? .held : .pairs, queryGradient: gradient, keyGradient: gradient) { tile in
        if !holdsTiles { exponentials(sweep, tile, a, shift, sumsColumns: false, rowSums: nil) }
        let start = tile.columns.lowerBound
        for row in tile.rows {
          let positives = labels.positives(of: row)
          kernels.similarities.scaleByRowAndColumn(
            UnsafePointer(tile.row(row)), tile.columns.count, factors[row], UnsafePointer(factors + start),
            UnsafePointer(labels.values + start), labels.values[row],
            positives > 0 ? Scalar(-2 / Double(positives)) : 0, tile.outputRow(row))
          if tile.isDiagonal { tile.outputRow(row)[row - start] = 0 }
        }
      }
    }
    return similarity.finish(results.total(count), sweep.tile)
  }

  private func exponentials(
    _ sweep: TileSweep<Scalar>, _ tile: TileSweep<Scalar>.Tile, _ a: Scalar, _ shift: Scalar, sumsColumns: Bool,
    rowSums: UnsafeMutablePointer<ExponentialSums>?
  ) {
    if tile.isDiagonal {
      for row in tile.rows {
        _ = OwnPair(
          taking: tile.row(row) + (row - tile.columns.lowerBound), scale: similarity.scale, shift: shift)
      }
    }
    sweep.exponentials(tile, a, shift, sumsColumns: sumsColumns && !tile.isDiagonal, rowSums: rowSums)
  }

  /// The mean similarity of each row with its positives, from the sum of its class; `nil` where it has none.
  private func forEachMean(
    _ rows: PackedRows<Scalar>, _ labels: BatchLabels<Scalar>, _ kernels: KernelTable<Scalar>,
    _ body: (Int, Double?) -> Void
  ) {
    let columns = rows.columns
    similarity.engine.forEachBlock(labels.classCount) { number, workspace in
      let size = Int(labels.sizes[number])
      let members = labels.members + Int(labels.starts[number])
      guard size > 1 else { return body(Int(members[0]), nil) }
      let sum = workspace.buffer(of: Scalar.self, count: columns)
      sum.update(repeating: 0, count: columns)
      for index in 0..<size {
        kernels.rows.combine(
          1, UnsafePointer(sum), 1, UnsafePointer(rows.pointer(Int(members[index]))), sum, columns)
      }
      for index in 0..<size {
        let row = UnsafePointer(rows.pointer(Int(members[index])))
        let others = kernels.rows.dot(row, UnsafePointer(sum), columns) - kernels.rows.dot(row, row, columns)
        body(Int(members[index]), others / Double(size - 1))
      }
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
