import BatchLossFormulas

// Allocating forms, once for each set of inputs that losses on embeddings have.

/// A loss of a batch of embeddings whose rows have labels.
public protocol LabelledBatchLoss: Sendable {
  /// The cost and what is found beside it.
  associatedtype Result: Sendable

  /// The cost of a labelled batch; `gradient` receives its derivative by each embedding.
  @discardableResult
  func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, labels: borrowing Span<Label>, reduction: Reduction,
    denominator: Double?, losses: consuming MutableSpan<Scalar>?, gradient: consuming MutableMatrixView<Scalar>?,
    engine: Engine
  ) throws(BatchLossError) -> Result
}

extension LabelledBatchLoss {
  /// The cost of a labelled batch and its gradient in a new matrix.
  /// - Throws: ``BatchLossError`` as `evaluate` does.
  public func costAndGradient<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, labels: borrowing Span<Label>, reduction: Reduction = .mean,
    engine: Engine = .shared
  ) throws(BatchLossError) -> (result: Result, gradient: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: embeddings.rows, columns: embeddings.columns)
    let result = try evaluate(
      embeddings, labels: labels, reduction: reduction, denominator: nil, losses: nil,
      gradient: gradient.mutableView, engine: engine)
    return (result, gradient)
  }
}

extension ContrastiveLoss: LabelledBatchLoss {}
extension TripletLoss: LabelledBatchLoss {}
extension InfoNCELoss: LabelledBatchLoss {}
extension SupConLoss: LabelledBatchLoss {}
extension MultiSimilarityLoss: LabelledBatchLoss {}

/// A loss of pairs of rows that are similar or not.
public protocol RowPairLoss: Sendable {
  /// The cost of pairs: row i of each matrix. The gradients receive its derivatives by both.
  @discardableResult
  func evaluate<Scalar: LossScalar>(
    first: borrowing MatrixView<Scalar>, second: borrowing MatrixView<Scalar>, similar: borrowing Span<Bool>,
    weights: Span<Scalar>?, reduction: Reduction, denominator: Double?, losses: consuming MutableSpan<Scalar>?,
    firstGradient: consuming MutableMatrixView<Scalar>?, secondGradient: consuming MutableMatrixView<Scalar>?,
    engine: Engine
  ) throws(BatchLossError) -> MiningResult
}

extension RowPairLoss {
  /// The cost of pairs and its gradients in new matrices.
  /// - Throws: ``BatchLossError`` as `evaluate` does.
  public func costAndGradients<Scalar: LossScalar>(
    first: borrowing MatrixView<Scalar>, second: borrowing MatrixView<Scalar>, similar: borrowing Span<Bool>,
    weights: Span<Scalar>? = nil, reduction: Reduction = .mean, engine: Engine = .shared
  ) throws(BatchLossError) -> (result: MiningResult, first: Matrix<Scalar>, second: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: first.rows, columns: first.columns)
    var other = try Matrix<Scalar>(rows: second.rows, columns: second.columns)
    let result = try evaluate(
      first: first, second: second, similar: similar, weights: weights, reduction: reduction, denominator: nil,
      losses: nil, firstGradient: gradient.mutableView, secondGradient: other.mutableView, engine: engine)
    return (result, gradient, other)
  }
}

extension ContrastiveLoss: RowPairLoss {}
extension CosineEmbeddingLoss: RowPairLoss {}

/// A loss of images and the texts that belong to them.
public protocol ImageTextLoss: Sendable {
  /// The cost of pairs: row i of each matrix. The gradients receive its derivatives by both.
  @discardableResult
  func evaluate<Scalar: LossScalar>(
    images: borrowing MatrixView<Scalar>, texts: borrowing MatrixView<Scalar>, reduction: Reduction,
    denominator: Double?, losses: consuming MutableSpan<Scalar>?,
    imageGradient: consuming MutableMatrixView<Scalar>?, textGradient: consuming MutableMatrixView<Scalar>?,
    engine: Engine
  ) throws(BatchLossError) -> SimilarityResult
}

extension ImageTextLoss {
  /// The cost of pairs and its gradients in new matrices.
  /// - Throws: ``BatchLossError`` as `evaluate` does.
  public func costAndGradients<Scalar: LossScalar>(
    images: borrowing MatrixView<Scalar>, texts: borrowing MatrixView<Scalar>, reduction: Reduction = .mean,
    engine: Engine = .shared
  ) throws(BatchLossError) -> (result: SimilarityResult, images: Matrix<Scalar>, texts: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: images.rows, columns: images.columns)
    var other = try Matrix<Scalar>(rows: texts.rows, columns: texts.columns)
    let result = try evaluate(
      images: images, texts: texts, reduction: reduction, denominator: nil, losses: nil,
      imageGradient: gradient.mutableView, textGradient: other.mutableView, engine: engine)
    return (result, gradient, other)
  }
}

extension CLIPLoss: ImageTextLoss {}
extension SigLIPLoss: ImageTextLoss {}

/// A loss of embeddings and the centers of their classes.
public protocol ClassCenterLoss: Sendable {
  /// The cost of a labelled batch. The gradients receive its derivatives by embeddings and centers.
  @discardableResult
  func evaluate<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, classCenters: borrowing MatrixView<Scalar>,
    labels: borrowing Span<Label>, reduction: Reduction, denominator: Double?,
    losses: consuming MutableSpan<Scalar>?, gradient: consuming MutableMatrixView<Scalar>?,
    classCenterGradient: consuming MutableMatrixView<Scalar>?, engine: Engine
  ) throws(BatchLossError) -> SimilarityResult
}

extension ClassCenterLoss {
  /// The cost of a labelled batch and its gradients in new matrices.
  /// - Throws: ``BatchLossError`` as `evaluate` does.
  public func costAndGradients<Scalar: LossScalar, Label: FixedWidthInteger>(
    _ embeddings: borrowing MatrixView<Scalar>, classCenters: borrowing MatrixView<Scalar>,
    labels: borrowing Span<Label>, reduction: Reduction = .mean, engine: Engine = .shared
  ) throws(BatchLossError) -> (
    result: SimilarityResult, embeddings: Matrix<Scalar>, classCenters: Matrix<Scalar>
  ) {
    var gradient = try Matrix<Scalar>(rows: embeddings.rows, columns: embeddings.columns)
    var other = try Matrix<Scalar>(rows: classCenters.rows, columns: classCenters.columns)
    let result = try evaluate(
      embeddings, classCenters: classCenters, labels: labels, reduction: reduction, denominator: nil, losses: nil,
      gradient: gradient.mutableView, classCenterGradient: other.mutableView, engine: engine)
    return (result, gradient, other)
  }
}

extension ArcFaceLoss: ClassCenterLoss {}
extension CosFaceLoss: ClassCenterLoss {}

extension InfoNCELoss {
  /// The cost of queries and keys and its gradients in new matrices.
  /// - Throws: ``BatchLossError`` as `evaluate` does.
  public func costAndGradients<Scalar: LossScalar>(
    queries: borrowing MatrixView<Scalar>, keys: borrowing MatrixView<Scalar>, reduction: Reduction = .mean,
    engine: Engine = .shared
  ) throws(BatchLossError) -> (result: SimilarityResult, queries: Matrix<Scalar>, keys: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: queries.rows, columns: queries.columns)
    var other = try Matrix<Scalar>(rows: keys.rows, columns: keys.columns)
    let result = try evaluate(
      queries: queries, keys: keys, reduction: reduction, queryGradient: gradient.mutableView,
      keyGradient: other.mutableView, engine: engine)
    return (result, gradient, other)
  }
}

extension NPairsLoss {
  /// The cost of anchors and positives and its gradients in new matrices.
  /// - Throws: ``BatchLossError`` as `evaluate` does.
  public func costAndGradients<Scalar: LossScalar>(
    anchors: borrowing MatrixView<Scalar>, positives: borrowing MatrixView<Scalar>, reduction: Reduction = .mean,
    engine: Engine = .shared
  ) throws(BatchLossError) -> (result: SimilarityResult, anchors: Matrix<Scalar>, positives: Matrix<Scalar>) {
    var gradient = try Matrix<Scalar>(rows: anchors.rows, columns: anchors.columns)
    var other = try Matrix<Scalar>(rows: positives.rows, columns: positives.columns)
    let result = try evaluate(
      anchors: anchors, positives: positives, reduction: reduction, anchorGradient: gradient.mutableView,
      positiveGradient: other.mutableView, engine: engine)
    return (result, gradient, other)
  }
}

extension TripletLoss {
  /// The cost of given triplets and its gradients in new matrices.
  /// - Throws: ``BatchLossError`` as `evaluate` does.
  public func costAndGradients<Scalar: LossScalar>(
    anchors: borrowing MatrixView<Scalar>, positives: borrowing MatrixView<Scalar>,
    negatives: borrowing MatrixView<Scalar>, weights: Span<Scalar>? = nil, reduction: Reduction = .mean,
    engine: Engine = .shared
  ) throws(BatchLossError) -> (
    result: MiningResult, anchors: Matrix<Scalar>, positives: Matrix<Scalar>, negatives: Matrix<Scalar>
  ) {
    var gradient = try Matrix<Scalar>(rows: anchors.rows, columns: anchors.columns)
    var near = try Matrix<Scalar>(rows: positives.rows, columns: positives.columns)
    var far = try Matrix<Scalar>(rows: negatives.rows, columns: negatives.columns)
    let result = try evaluate(
      anchors: anchors, positives: positives, negatives: negatives, weights: weights, reduction: reduction,
      anchorGradient: gradient.mutableView, positiveGradient: near.mutableView, negativeGradient: far.mutableView,
      engine: engine)
    return (result, gradient, near, far)
  }
}
