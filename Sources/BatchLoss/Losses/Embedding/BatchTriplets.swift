import BatchLossFormulas
import BatchLossKernelInterface

/// One call of ``TripletLoss`` whose triplets are all of a batch, or a semi-hard one for every positive pair.
struct BatchTriplets<Scalar: LossScalar> {
  let form: TripletForm
  let isSemiHard: Bool
  let batch: LabelledBatch<Scalar>

  /// Up to so many positives every pair is looked at; beyond, ranks among the sorted thresholds are cheaper.
  private static var fewPositives: Int { 32 }

  func run<Label: FixedWidthInteger>(
    _ labels: UnsafeBufferPointer<Label>
  ) throws(BatchLossError) -> MiningResult {
    let rows = batch.embeddings.rows
    // Of scalars: weights, thresholds, sorted thresholds, scratch of the sort, and four float64 sums a gap.
    let doubles = 4 * (rows + 2) * (MemoryLayout<Double>.stride / MemoryLayout<Scalar>.stride)
    return try batch.run(labels: labels, isSymmetric: false, scratch: (4 * (rows + 16) + doubles, 0)) { context in
      let classes = context.labels
      var valid = 0
      for row in 0..<rows {
        let (positives, negatives) = (classes.positives(of: row), classes.negatives(of: row))
        valid += isSemiHard ? (negatives > 0 ? positives : 0) : positives * negatives
      }
      return BatchPlan(valid: valid) { row, distances, scratch, _ in
        anchor(row, distances, scratch, context)
      }
    }
  }

  private func anchor(
    _ anchor: Int, _ distances: UnsafeMutablePointer<Scalar>, _ scratch: UnsafeMutablePointer<Scalar>,
    _ context: BatchContext<Scalar>
  ) -> RowResult {
    let (labels, kernels) = (context.labels, context.kernels.triplets)
    let step = (labels.count + 15) & ~15
    let sorted = scratch + 2 * step
    let sums = UnsafeMutableRawPointer(scratch + 4 * step).assumingMemoryBound(to: Double.self)
    var row = TripletRow(
      distances: distances, labels: UnsafePointer(labels.values), label: labels.values[anchor],
      count: labels.count, anchor: anchor, thresholds: scratch + step, sorted: UnsafePointer(sorted),
      positives: 0, weights: scratch, sums: sums)
    let (positives, negatives) = (labels.positives(of: anchor), labels.negatives(of: anchor))
    guard positives > 0, negatives > 0 else {
      distances.update(repeating: 0, count: labels.count)
      return RowResult()
    }
    row.positives = kernels.thresholds(row, isSemiHard ? 0 : Scalar(form.margin))
    let result: (loss: Double, active: Int)
    if !isSemiHard && (form.shape == .softplus || positives <= Self.fewPositives) {
      result = kernels.everyPair(row, form.shape)
    } else {
      sorted.update(from: row.thresholds, count: positives)
      AscendingSort.run(sorted, positives, scratch: scratch + 3 * step)
      result =
        isSemiHard ? kernels.semiHard(row, form.shape, form.margin) : kernels.ranked(row, form.shape)
    }
    let weightSum = context.kernels.distances.chain(
      distances, UnsafePointer(row.weights), labels.count, batch.distance.form)
    return RowResult(loss: result.loss, weightSum: weightSum, active: result.active)
  }
}
