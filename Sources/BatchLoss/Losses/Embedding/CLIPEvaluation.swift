import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``CLIPLoss``.
///
/// Tiles of e^(a·s − shift) give the normalisers of rows and columns in one sweep. In the second they become weights,
/// e·(1/row + 1/column), and the gradient of both sides. They are held in between where they fit the workspace budget,
/// and computed again otherwise. Long ranges of logits take the way of `runBothDirections`.
struct CLIPEvaluation<Scalar: LossScalar> {
  let similarity: SimilarityEvaluation<Scalar>

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  func run() throws(BatchLossError) -> SimilarityResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let (count, engine, scale) = (similarity.queries.rows, similarity.engine, similarity.scale)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let holdsTiles =
      similarity.wantsGradient && TileSweep<Scalar>.fits(rows: count, columns: count, isSymmetric: false, engine)
    let (sweep, rows, columns, own, rowFactors, columnFactors) = workspace.arrays { arena in
      let tile = similarity.tile(kernels, &arena)
      return (
        TileSweep(tile, engine: engine, isSymmetric: false, holdsTiles: holdsTiles, &arena),
        arena.array(of: ExponentialSums.self, count), arena.array(of: ExponentialSums.self, count),
        arena.array(of: OwnPair.self, count), arena.array(of: Scalar.self, count),
        arena.array(of: Scalar.self, count)
      )
    }
    sweep.tile.queries.prepare(kernels, engine)
    sweep.tile.keys.prepare(kernels, engine)
    guard let shift = SharedShift.find(sweep.tile.queries, sweep.tile.keys, scale: scale, kernels) else {
      return try similarity.runBothDirections()
    }
    let a = Scalar(scale)
    rows.initialize(repeating: ExponentialSums(), count: count)
    columns.initialize(repeating: ExponentialSums(), count: count)
    sweep.run { tile in
      for row in tile.rows where tile.columns.contains(row) {
        own[row] = OwnPair(taking: tile.row(row) + (row - tile.columns.lowerBound), scale: scale, shift: shift)
      }
      sweep.exponentials(tile, a, shift, sumsColumns: true, rowSums: rows)
      for column in tile.columns {
        columns[column].sum += Double(tile.columnSums[column - tile.columns.lowerBound])
        columns[column].product += Double(tile.columnProducts[column - tile.columns.lowerBound])
      }
    }

    var total = RowResult()
    for row in 0..<count {
      let pair = own[row]
      let loss = pair.loss(others: rows[row].sum) + pair.loss(others: columns[row].sum)
      let (rowTotal, columnTotal) = (rows[row].sum + pair.power, columns[row].sum + pair.power)
      rowFactors[row] = Scalar(1 / rowTotal)
      columnFactors[row] = Scalar(1 / columnTotal)
      similarity.losses?[row] = Scalar(0.5 * loss)
      total.loss += loss
      total.valid += 1
      if loss > 0 { total.active += 1 }
      total.weighted +=
        rows[row].product / rowTotal + columns[row].product / columnTotal
        - (rows[row].sum / rowTotal + columns[row].sum / columnTotal) * pair.similarity
    }
    if similarity.wantsGradient {
      similarity.queryGradient?.fill(0)
      similarity.keyGradient?.fill(0)
      sweep.run(
        from: holdsTiles ? .held : .pairs, queryGradient: similarity.queryGradient,
        keyGradient: similarity.keyGradient
      ) { tile in
        if !holdsTiles { sweep.exponentials(tile, a, shift, sumsColumns: false, rowSums: nil) }
        let start = tile.columns.lowerBound
        for row in tile.rows {
          let weights = tile.outputRow(row)
          kernels.similarities.scaleByRowAndColumn(
            UnsafePointer(tile.row(row)), tile.columns.count, rowFactors[row], UnsafePointer(columnFactors + start),
            nil, 0, 0, weights)
          if tile.columns.contains(row) {
            weights[row - start] = Scalar(
              -own[row].rest(others: rows[row].sum) - own[row].rest(others: columns[row].sum))
          }
        }
      }
    }
    return similarity.finish(total, sweep.tile, lossFactor: 0.5)
  }
}

extension SimilarityEvaluation {
  /// Cross-entropy along rows and along columns, of logits of any range.
  ///
  /// The first sweep finds the normalisers: of a row by the worker that has the row, of a column, over one group of
  /// rows after another, by the worker that has the column. The second turns similarities into weights.
  func runBothDirections() throws(BatchLossError) -> SimilarityResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let count = queries.rows
    let (bytes, overflows) = (count * MemoryLayout<Scalar>.stride).multipliedReportingOverflow(by: count)
    let holdsAll = !overflows && bytes <= engine.configuration.workspaceBudget
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let (sweep, rowShifts, positives, maxima, sums) = workspace.arrays { arena in
      let tile = rowTile(kernels, &arena)
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
      // The logit as the kernels round it: a pair that both sides are certain of costs 0.
      let logit = Double(factor * Scalar(positives[row]))
      let loss = notNegative(rowShifts[row] - logit + (columnShift - logit))
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
