import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``TripletLoss`` with the hardest triplet of each anchor.
///
/// Distances of all pairs only serve to choose: by ``HardestPairs`` where it can, else from products of the scalar type.
/// The loss of the chosen triplets and its gradient are computed from the rows themselves. A gradient row is a sum over
/// the triplets in which the row takes part, which its owner adds in the order of their anchors.
struct BatchHardEvaluation<Scalar: LossScalar> {
  let form: TripletForm
  let batch: LabelledBatch<Scalar>

  /// A term difference·(x_owner − x_other) + own·x_owner of a gradient.
  private struct Term {
    var owner: Int32
    var other: Int32
    var difference: Double
    var own: Double
  }

  private static var termsPerTriplet: Int { 4 }

  @_specialize(where Scalar == Float)
  @_specialize(where Scalar == Double)
  func run(_ classes: UnsafeBufferPointer<Int32>) throws(BatchLossError) -> MiningResult {
    let kernels = try KernelSelection.current.table(Scalar.self)
    let (rows, engine) = (batch.embeddings.rows, batch.engine)
    let workspace = engine.borrowWorkspace()
    defer { engine.giveBack(workspace) }
    let count = Self.termsPerTriplet * rows
    let (pairs, sweep, labels, extremes, centre, results) = workspace.arrays { arena in
      let packed = PackedRows(batch.embeddings, batch.distance.preparation, &arena)
      // Squares are in the order of their roots.
      let tile = PairTile(
        queries: packed, keys: packed, distance: batch.distance == .cosine ? .cosine : .squaredEuclidean,
        kernels: kernels)
      let labels = BatchLabels<Scalar>(count: rows, &arena)
      return (
        HardestPairs(tile, labels: labels, engine: engine, &arena),
        TileSweep(tile, engine: engine, isSymmetric: true, &arena), labels,
        HardestExtremes(
          far: arena.array(of: Scalar.self, rows), farAt: arena.array(of: Scalar.self, rows),
          near: arena.array(of: Scalar.self, rows), nearAt: arena.array(of: Scalar.self, rows)),
        arena.array(of: Scalar.self, batch.embeddings.columns), arena.array(of: RowResult.self, rows)
      )
    }
    let packed = sweep.tile.queries
    labels.fill(numbers: classes)
    packed.prepareForDistances(kernels, engine, centre: centre)
    let found = pairs.flatMap { $0.find() ? $0 : nil }
    if found == nil {
      for row in 0..<rows {
        (extremes.far[row], extremes.farAt[row]) = (-1, -1)
        (extremes.near[row], extremes.nearAt[row]) = (.infinity, -1)
      }
      sweep.run { tile in look(at: tile, labels, extremes, kernels) }
    }

    let more = engine.borrowWorkspace()
    defer { engine.giveBack(more) }
    let (terms, order, starts) = more.arrays { arena in
      (
        arena.array(of: Term.self, count), arena.array(of: Int32.self, count),
        arena.array(of: Int32.self, rows + 2)
      )
    }
    let partition = packed.partition
    engine.forEachBlock(partition.blocks) { block, _ in
      for row in partition[block] {
        let isValid = labels.positives(of: row) > 0 && labels.negatives(of: row) > 0
        let (positive, negative) =
          found.map { ($0.farthestPositive(of: row), $0.nearestNegative(of: row)) }
          ?? (Int(extremes.farAt[row]), Int(extremes.nearAt[row]))
        results[row] = triplet(
          of: row, positive, negative, kernels, isValid: isValid, terms + Self.termsPerTriplet * row)
      }
    }
    var total = RowResult()
    for row in 0..<rows {
      total.loss += results[row].loss
      total.valid += results[row].valid
      total.active += results[row].active
      batch.losses?[row] = Scalar(results[row].loss)
    }
    let divisor = batch.divisor(valid: total.valid, active: total.active)
    if let gradient = batch.gradient {
      if divisor == 0 {
        gradient.fill(0)
      } else {
        sort(terms, count, into: order, starts: starts, rows: rows)
        add(terms, order, starts, to: gradient, scale: 1 / divisor, kernels, partition)
      }
    }
    return MiningResult(
      cost: Cost(sum: total.loss, denominator: divisor), valid: total.valid, active: total.active)
  }

  private func look(
    at tile: TileSweep<Scalar>.Tile, _ labels: BatchLabels<Scalar>, _ extremes: HardestExtremes<Scalar>,
    _ kernels: KernelTable<Scalar>
  ) {
    func part(from row: Int) -> HardestExtremes<Scalar> {
      HardestExtremes(
        far: extremes.far + row, farAt: extremes.farAt + row, near: extremes.near + row,
        nearAt: extremes.nearAt + row)
    }
    let (row, column) = (tile.rows.lowerBound, tile.columns.lowerBound)
    // A row is no pair with itself.
    if tile.isDiagonal { for row in tile.rows { tile.row(row)[row - column] = .nan } }
    kernels.triplets.hardest(
      HardestTile(
        distances: tile.values, stride: tile.stride, rows: tile.rows.count, columns: tile.columns.count,
        firstRow: row, firstColumn: column, rowLabels: UnsafePointer(labels.values + row),
        columnLabels: UnsafePointer(labels.values + column), rowExtremes: part(from: row),
        columnExtremes: tile.isDiagonal ? nil : part(from: column)))
  }

  private func triplet(
    of anchor: Int, _ positive: Int, _ negative: Int, _ kernels: KernelTable<Scalar>, isValid: Bool,
    _ terms: UnsafeMutablePointer<Term>
  ) -> RowResult {
    for index in 0..<Self.termsPerTriplet { terms[index] = Term(owner: -1, other: 0, difference: 0, own: 0) }
    guard isValid else { return RowResult() }
    // NaN is never chosen: all distances of the anchor to positives, or to negatives, are NaN.
    guard positive >= 0, negative >= 0 else {
      terms[0] = Term(
        owner: Int32(truncatingIfNeeded: anchor), other: Int32(truncatingIfNeeded: anchor), difference: .nan,
        own: .nan)
      return RowResult(loss: .nan, valid: 1)
    }
    func row(_ index: Int) -> UnsafePointer<Scalar> { UnsafePointer(batch.embeddings.pointer(index, 0)) }
    let result = kernels.triplets.terms(
      form, row(anchor), row(positive), row(negative), batch.embeddings.columns)
    let base = result.isSwapped ? positive : anchor
    func term(_ owner: Int, _ other: Int, _ difference: Double, _ own: Double) -> Term {
      Term(
        owner: Int32(truncatingIfNeeded: owner), other: Int32(truncatingIfNeeded: other),
        difference: difference, own: own)
    }
    terms[0] = term(anchor, positive, result.positiveDifference, result.anchorOwn)
    terms[1] = term(positive, anchor, result.positiveDifference, result.positiveOwn)
    terms[2] = term(base, negative, result.negativeDifference, result.baseOwn)
    terms[3] = term(negative, base, result.negativeDifference, result.negativeOwn)
    return RowResult(loss: result.loss, valid: 1, active: result.isActive ? 1 : 0)
  }

  /// Lists the terms of each owner, in order; those of row r are from `starts[r]` to `starts[r + 1]`.
  private func sort(
    _ terms: UnsafePointer<Term>, _ count: Int, into order: UnsafeMutablePointer<Int32>,
    starts: UnsafeMutablePointer<Int32>, rows: Int
  ) {
    starts.update(repeating: 0, count: rows + 2)
    for index in 0..<count where terms[index].owner >= 0 { starts[Int(terms[index].owner) + 2] += 1 }
    for row in 0..<rows { starts[row + 2] += starts[row + 1] }
    for index in 0..<count where terms[index].owner >= 0 {
      let owner = Int(terms[index].owner) + 1
      order[Int(starts[owner])] = Int32(truncatingIfNeeded: index)
      starts[owner] += 1
    }
  }

  private func add(
    _ terms: UnsafePointer<Term>, _ order: UnsafePointer<Int32>, _ starts: UnsafePointer<Int32>,
    to gradient: RowMajor<Scalar>, scale: Double, _ kernels: KernelTable<Scalar>, _ partition: BlockPartition
  ) {
    let embeddings = batch.embeddings
    batch.engine.forEachBlock(partition.blocks) { block, _ in
      for row in partition[block] {
        let output = gradient.pointer(row, 0)
        output.update(repeating: 0, count: gradient.columns)
        for place in Int(starts[row])..<Int(starts[row + 1]) {
          let term = terms[Int(order[place])]
          if term.difference == 0 && term.own == 0 { continue }
          kernels.rows.addDifference(
            Scalar(scale * term.difference), Scalar(scale * term.own), UnsafePointer(embeddings.pointer(row, 0)),
            UnsafePointer(embeddings.pointer(Int(term.other), 0)), output, gradient.columns)
        }
      }
    }
  }
}
