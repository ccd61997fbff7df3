import BatchLossFormulas

/// Connectionist temporal classification: the loss of a label sequence whose place in time is not known.
///
/// An alignment gives every frame a label or the blank; it stands for the target if the target remains after
/// equal neighbours are merged and blanks dropped. With y = softmax of a frame's logits,
///
///     loss = −log Σ over alignments of the target Π over frames y_t(alignment_t)
///     ∂loss/∂logit_t(k) = y_t(k) − γ_t(k)
///
/// where γ_t(k) is the share of alignments, weighted by their probability, that have class k at frame t. From
/// log-probabilities, which are taken as they are, the derivative is −γ_t(k).
///
/// - **Shapes**: `batch` × `time` frames of `columns` classes, as rows of a matrix in either ``Layout``. Input
///   lengths say how many frames of each utterance count: those after are never read, and their gradient is
///   exactly 0.
/// - **Unit**: nats. From logits a loss is never below 0; log-probabilities that are none (above 0) may give one.
/// - **Infeasible targets** (fewer frames than ``CTCTargets/requiredFrames()``, or a label of logit −∞ everywhere):
///   loss +∞ and gradient 0, or with ``zeroInfinity`` loss 0 and gradient 0. Either way they count in the mean.
///   An utterance of no frames has loss 0 if its target is empty. A frame with NaN, +∞ or nothing but −∞ makes
///   loss and gradient of its utterance NaN.
/// - **Accuracy**: the recursion is in float64 and cannot underflow, so that a `Float` gradient is as good as
///   its softmax: of a single utterance off by less than 3e-7 at 1000 frames and 200 labels, for logits of
///   standard deviation 1 and of 100 alike (docs/losses.md has the measurement).
/// - **Cost**: O(frames · (classes + labels)) time, O(frames · labels) scratch memory a worker, and for logits of up
///   to 128 classes their exponentials as well, which are at most 128 scalars a frame; nothing is allocated when a
///   call of the same shape is repeated.
/// - **Determinism**: an utterance is worked on by one worker, and losses are added in the order of the batch,
///   so the bits of a result do not depend on the number of workers.
///
/// ```swift
/// let cost = try CTCLoss().evaluate(
///   logits.matrix(columns: 32), targets: CTCTargets(padded: labels.span, batch: 64, lengths: lengths.span),
///   inputLengths: frames.span, gradient: gradient.mutableMatrix(columns: 32))
/// ```
///
/// Source: A. Graves, S. Fernández, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
/// unsegmented sequence data with recurrent neural networks", ICML 2006, equations 3 to 16.
public struct CTCLoss: Hashable, Sendable {
  /// In which order the frames of a batch are the rows of a matrix.
  public enum Layout: String, Hashable, Sendable, CaseIterable {
    /// Frame `t` of utterance `u` is row `u * time + t`.
    case batchMajor
    /// Frame `t` of utterance `u` is row `t * batch + u`, as PyTorch has it.
    case timeMajor
  }

  /// What the input holds.
  public enum Input: String, Hashable, Sendable, CaseIterable {
    /// Any numbers, of which each frame's softmax is taken.
    case logits
    /// Logarithms of probabilities, used as they are; only those of the blank and the target are read.
    case logProbabilities
  }

  /// The class that stands for no label.
  public let blank: Int
  /// Whether infeasible targets cost 0 instead of +∞.
  public let zeroInfinity: Bool
  /// The order of the rows.
  public let layout: Layout
  /// What the rows hold.
  public let input: Input

  /// A loss of these options.
  /// - Throws: ``BatchLossError`` when `blank` is negative.
  public init(
    blank: Int = 0, zeroInfinity: Bool = false, layout: Layout = .batchMajor, input: Input = .logits
  ) throws(BatchLossError) {
    guard blank >= 0 else {
      throw BatchLossError(
        .invalidParameter, parameter: "blank", expected: "a class index ≥ 0", actual: "\(blank)")
    }
    self.blank = blank
    self.zeroInfinity = zeroInfinity
    self.layout = layout
    self.input = input
  }
}

// MARK: - Evaluation

extension CTCLoss {
  /// The cost of a batch and, on request, its gradient and the losses of its utterances.
  ///
  /// - Parameters:
  ///   - logits: The frames of all utterances as rows, classes as columns.
  ///   - targets: The labels of each utterance; they also say how many utterances there are.
  ///   - inputLengths: How many frames of each utterance count; all of them when nil.
  ///   - weights: A factor for the loss and gradient of each utterance. One of weight 0 is not read and adds
  ///     exactly 0.
  ///   - reduction: `.mean` divides each loss by the length of its target (at least 1) and the sum by the
  ///     number of utterances, as PyTorch, or by the sum of the weights; `.meanOverCount` and `.batchMean` divide by
  ///     the number of utterances only, `.sum` by nothing. `.meanOverActive` has no meaning here.
  ///   - denominator: Overrides the divisor of the sum, so that micro-batches give the gradient of one batch;
  ///     the division of each loss by its target's length in `.mean` stays.
  ///   - losses: Receives the loss of every utterance, weighted and unreduced.
  ///   - gradient: Receives the derivative of the cost by each logit.
  ///   - engine: Workers and scratch memory.
  /// - Returns: Sum and denominator in float64.
  /// - Throws: ``BatchLossError`` that names the utterance, for labels that are no class or the blank, lengths
  ///   that are negative or beyond their array, and shapes that do not match; nothing has been written then.
  @discardableResult
  public func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ logits: borrowing MatrixView<Scalar>,
    targets: borrowing CTCTargets<Label>,
    inputLengths: Span<Int>? = nil,
    weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean,
    denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil,
    gradient: consuming MutableMatrixView<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    var losses = losses
    let evaluation = CTCEvaluation(
      loss: self, logits: logits.memory, weights: pointerIfPresent(to: weights), reduction: reduction,
      denominator: denominator, losses: memory(of: &losses), gradient: memory(of: gradient), engine: engine)
    return try evaluation.run(targets: targets, inputLengths: inputLengths)
  }

  /// The cost of a batch whose logits are replaced by the gradient.
  ///
  /// As `evaluate`, without a second buffer.
  @discardableResult
  public func evaluateInPlace<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ logits: consuming MutableMatrixView<Scalar>,
    targets: borrowing CTCTargets<Label>,
    inputLengths: Span<Int>? = nil,
    weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean,
    denominator: Double? = nil,
    losses: consuming MutableSpan<Scalar>? = nil,
    engine: Engine = .shared
  ) throws(BatchLossError) -> Cost {
    var losses = losses
    let evaluation = CTCEvaluation(
      loss: self, logits: logits.memory, weights: pointerIfPresent(to: weights), reduction: reduction,
      denominator: denominator, losses: memory(of: &losses), gradient: logits.memory, engine: engine)
    return try evaluation.run(targets: targets, inputLengths: inputLengths)
  }

  /// The cost of a batch and its gradient in a new matrix.
  public func costAndGradient<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ logits: borrowing MatrixView<Scalar>,
    targets: borrowing CTCTargets<Label>,
    inputLengths: Span<Int>? = nil,
    weights: Span<Scalar>? = nil,
    reduction: Reduction = .mean,
    engine: Engine = .shared
  ) throws(BatchLossError) -> (cost: Cost, gradient: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: logits.rows, columns: logits.columns)
    let cost = try evaluate(
      logits, targets: targets, inputLengths: inputLengths, weights: weights, reduction: reduction,
      gradient: gradient.mutableView, engine: engine)
    return (cost, gradient)
  }
}
