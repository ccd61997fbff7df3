import BatchLoss
import BatchLossTestSupport
import Testing

/// A loss on embeddings, called the same way whatever its inputs are, with memory that is watched.
struct EmbeddingSubject: Sendable, CustomTestStringConvertible {
  /// What a loss gives, whatever its result is called.
  struct Outcome: Equatable {
    var cost: Cost
    var valid: Int
    /// The derivatives by scale and bias.
    var parameters: [Double?] = []
    var losses: [Float] = []
    /// The gradients of all inputs, one after another.
    var gradient: [Float] = []
    /// Whether nothing was written outside of losses and gradients.
    var isIntact = false

    init(_ result: MiningResult) { (cost, valid) = (result.cost, result.valid) }
    init(_ result: SimilarityResult) {
      (cost, valid, parameters) = (result.cost, result.valid, [result.scaleGradient, result.biasGradient])
    }

    /// NaN included.
    func hasSameBits(as other: Outcome) -> Bool {
      haveSameBits([cost.sum, cost.denominator], [other.cost.sum, other.cost.denominator])
        && haveSameBits(losses, other.losses) && haveSameBits(gradient, other.gradient)
        && haveSameBits(parameters.map { $0 ?? 0 }, other.parameters.map { $0 ?? 0 })
    }
  }

  /// The memory of one call: matrices with gaps between their rows that end before a page not to be touched.
  struct Call {
    let inputs: [GuardedBuffer<Float>]
    let gradients: [GuardedBuffer<Float>]
    let losses: GuardedBuffer<Float>
    let labels: [Int]
    var weights: GuardedBuffer<Float>?
    let engine: Engine
  }

  let testDescription: String
  /// What the parameters are called; those of labels differ, and not every loss has some.
  var names = [(input: "embeddings", gradient: "gradient")]
  var labelsName: String? = "labels"
  /// Without a positive or without a negative there is no loss at all.
  var needsPositives = false
  var needsNegatives = false
  /// Longer rows may cost less, so that identical ones still have a direction to go.
  var usesLengths = false
  /// How far rounding may leave a gradient from 0.
  var rounding: Float = 1e-6
  /// A batch of one row may cost something.
  var costsAlone = false
  /// Rows have nothing to do with each other.
  var isRowWise = false
  /// Looks for triplets without a softplus, which takes the time of all of them.
  var isMining = false
  let evaluate: @Sendable (Call) throws -> Outcome

  /// How many matrices there are.
  var inputs: Int { names.count }

  func run(
    _ x: [[Float]], _ columns: Int, _ labels: [Int], weights: [Float]? = nil, _ engine: Engine
  ) throws -> Outcome {
    let rows = labels.count
    let call = Call(
      inputs: x.map { GuardedBuffer(rows: rows, columns: columns, gap: 2, $0) },
      gradients: x.map { _ in GuardedBuffer(rows: rows, columns: columns, gap: 1) },
      losses: GuardedBuffer(rows: 1, columns: rows), labels: labels,
      weights: weights.map { GuardedBuffer(rows: 1, columns: rows, $0) }, engine: engine)
    var outcome = try evaluate(call)
    outcome.losses = call.losses.elements
    outcome.gradient = call.gradients.flatMap { $0.elements }
    outcome.isIntact =
      (call.inputs + call.gradients + [call.losses]).allSatisfy(\.isIntact)
      && zip(call.inputs, x).allSatisfy { haveSameBits($0.elements, $1) }
    return outcome
  }
}

// MARK: - Calls

extension EmbeddingSubject {
  private static func labelled(_ loss: some LabelledBatchLoss) -> @Sendable (Call) throws -> Outcome {
    { call in
      let (x, g) = (call.inputs[0], call.gradients[0])
      let result = try loss.evaluate(
        MatrixView(unsafeElements: x.readOnlyMemory, rows: x.rows, columns: x.columns, stride: x.stride),
        labels: call.labels.span, reduction: .mean, denominator: nil, losses: call.losses.memory.mutableSpan,
        gradient: MutableMatrixView(unsafeElements: g.memory, rows: g.rows, columns: g.columns, stride: g.stride),
        engine: call.engine)
      return try (result as? MiningResult).map { Outcome($0) } ?? Outcome(#require(result as? SimilarityResult))
    }
  }

  /// Similar are the pairs with an even label.
  private static func pairs(_ name: String, _ loss: some RowPairLoss) -> EmbeddingSubject {
    EmbeddingSubject(
      testDescription: name, names: [("first", "firstGradient"), ("second", "secondGradient")],
      labelsName: "similar", costsAlone: true, isRowWise: true
    ) { call in
      let (x, y, g, h) = (call.inputs[0], call.inputs[1], call.gradients[0], call.gradients[1])
      let similar = call.labels.map { $0 % 2 == 0 }
      return Outcome(
        try loss.evaluate(
          first: MatrixView(unsafeElements: x.readOnlyMemory, rows: x.rows, columns: x.columns, stride: x.stride),
          second: MatrixView(unsafeElements: y.readOnlyMemory, rows: y.rows, columns: y.columns, stride: y.stride),
          similar: similar.span, weights: call.weights?.readOnlyMemory.span, reduction: .mean, denominator: nil,
          losses: call.losses.memory.mutableSpan,
          firstGradient: MutableMatrixView(
            unsafeElements: g.memory, rows: g.rows, columns: g.columns, stride: g.stride),
          secondGradient: MutableMatrixView(
            unsafeElements: h.memory, rows: h.rows, columns: h.columns, stride: h.stride), engine: call.engine))
    }
  }

  private static func triplets(_ name: String, _ loss: TripletLoss) -> EmbeddingSubject {
    EmbeddingSubject(
      testDescription: name,
      names: [
        ("anchors", "anchorGradient"), ("positives", "positiveGradient"), ("negatives", "negativeGradient"),
      ], labelsName: nil, costsAlone: true, isRowWise: true
    ) { call in
      let (x, y, z) = (call.inputs[0], call.inputs[1], call.inputs[2])
      let (f, g, h) = (call.gradients[0], call.gradients[1], call.gradients[2])
      return Outcome(
        try loss.evaluate(
          anchors: MatrixView(unsafeElements: x.readOnlyMemory, rows: x.rows, columns: x.columns, stride: x.stride),
          positives: MatrixView(
            unsafeElements: y.readOnlyMemory, rows: y.rows, columns: y.columns, stride: y.stride),
          negatives: MatrixView(
            unsafeElements: z.readOnlyMemory, rows: z.rows, columns: z.columns, stride: z.stride),
          weights: call.weights?.readOnlyMemory.span, losses: call.losses.memory.mutableSpan,
          anchorGradient: MutableMatrixView(
            unsafeElements: f.memory, rows: f.rows, columns: f.columns, stride: f.stride),
          positiveGradient: MutableMatrixView(
            unsafeElements: g.memory, rows: g.rows, columns: g.columns, stride: g.stride),
          negativeGradient: MutableMatrixView(
            unsafeElements: h.memory, rows: h.rows, columns: h.columns, stride: h.stride), engine: call.engine))
    }
  }

  private static func matched(_ loss: some ImageTextLoss) -> @Sendable (Call) throws -> Outcome {
    { call in
      let (x, y, g, h) = (call.inputs[0], call.inputs[1], call.gradients[0], call.gradients[1])
      return Outcome(
        try loss.evaluate(
          images: MatrixView(unsafeElements: x.readOnlyMemory, rows: x.rows, columns: x.columns, stride: x.stride),
          texts: MatrixView(unsafeElements: y.readOnlyMemory, rows: y.rows, columns: y.columns, stride: y.stride),
          reduction: .mean, denominator: nil, losses: call.losses.memory.mutableSpan,
          imageGradient: MutableMatrixView(
            unsafeElements: g.memory, rows: g.rows, columns: g.columns, stride: g.stride),
          textGradient: MutableMatrixView(
            unsafeElements: h.memory, rows: h.rows, columns: h.columns, stride: h.stride), engine: call.engine))
    }
  }

  private static func keys(_ loss: InfoNCELoss) -> @Sendable (Call) throws -> Outcome {
    { call in
      let (x, y, g, h) = (call.inputs[0], call.inputs[1], call.gradients[0], call.gradients[1])
      return Outcome(
        try loss.evaluate(
          queries: MatrixView(unsafeElements: x.readOnlyMemory, rows: x.rows, columns: x.columns, stride: x.stride),
          keys: MatrixView(unsafeElements: y.readOnlyMemory, rows: y.rows, columns: y.columns, stride: y.stride),
          losses: call.losses.memory.mutableSpan,
          queryGradient: MutableMatrixView(
            unsafeElements: g.memory, rows: g.rows, columns: g.columns, stride: g.stride),
          keyGradient: MutableMatrixView(
            unsafeElements: h.memory, rows: h.rows, columns: h.columns, stride: h.stride), engine: call.engine))
    }
  }

  private static func nPairs(_ loss: NPairsLoss) -> @Sendable (Call) throws -> Outcome {
    { call in
      let (x, y, g, h) = (call.inputs[0], call.inputs[1], call.gradients[0], call.gradients[1])
      return Outcome(
        try loss.evaluate(
          anchors: MatrixView(unsafeElements: x.readOnlyMemory, rows: x.rows, columns: x.columns, stride: x.stride),
          positives: MatrixView(
            unsafeElements: y.readOnlyMemory, rows: y.rows, columns: y.columns, stride: y.stride),
          labels: call.labels.span, losses: call.losses.memory.mutableSpan,
          anchorGradient: MutableMatrixView(
            unsafeElements: g.memory, rows: g.rows, columns: g.columns, stride: g.stride),
          positiveGradient: MutableMatrixView(
            unsafeElements: h.memory, rows: h.rows, columns: h.columns, stride: h.stride), engine: call.engine))
    }
  }

  /// As many classes as rows.
  private static func centers(_ loss: some ClassCenterLoss) -> @Sendable (Call) throws -> Outcome {
    { call in
      let (x, y, g, h) = (call.inputs[0], call.inputs[1], call.gradients[0], call.gradients[1])
      let labels = call.labels.map { $0 % x.rows }
      return Outcome(
        try loss.evaluate(
          MatrixView(unsafeElements: x.readOnlyMemory, rows: x.rows, columns: x.columns, stride: x.stride),
          classCenters: MatrixView(
            unsafeElements: y.readOnlyMemory, rows: y.rows, columns: y.columns, stride: y.stride),
          labels: labels.span, reduction: .mean, denominator: nil, losses: call.losses.memory.mutableSpan,
          gradient: MutableMatrixView(
            unsafeElements: g.memory, rows: g.rows, columns: g.columns, stride: g.stride),
          classCenterGradient: MutableMatrixView(
            unsafeElements: h.memory, rows: h.rows, columns: h.columns, stride: h.stride), engine: call.engine))
    }
  }
}

// MARK: - The list

extension EmbeddingSubject {
  static let all: [EmbeddingSubject] = {
    do {
      return try labelledBatches() + givenRows() + severalInputs()
    } catch { fatalError("\(error)") }
  }()

  private static func labelledBatches() throws -> [EmbeddingSubject] {
    func subject(
      _ name: String, positives: Bool = true, negatives: Bool = true, usesLengths: Bool = false,
      isMining: Bool = false, _ loss: some LabelledBatchLoss
    ) -> EmbeddingSubject {
      EmbeddingSubject(
        testDescription: name, needsPositives: positives, needsNegatives: negatives, usesLengths: usesLengths,
        isMining: isMining, evaluate: labelled(loss))
    }
    var all = [
      subject("SupCon", negatives: false, try SupConLoss()),
      subject("SupCon, not normalised", negatives: false, try SupConLoss(normalizes: false)),
      subject("SupCon, sharp", negatives: false, try SupConLoss(temperature: 0.02)),
      subject("NT-Xent", try InfoNCELoss()),
      subject("NT-Xent, not normalised", usesLengths: true, try InfoNCELoss(normalizes: false)),
      subject("multi-similarity", positives: false, negatives: false, try MultiSimilarityLoss()),
    ]
    for distance in EmbeddingDistance.allCases {
      for mining in TripletLoss.Mining.allCases where mining != .given {
        for (smooth, squared) in [(false, false), (true, false), (false, true)] {
          all.append(
            subject(
              "triplet \(distance) \(mining) \(smooth) \(squared)", isMining: !smooth,
              try TripletLoss(distance: distance, mining: mining, smooth: smooth, squared: squared)))
        }
      }
      all.append(
        subject(
          "triplet \(distance) hard swap", try TripletLoss(distance: distance, mining: .batchHard, swap: true)))
      for linear in [false, true] {
        all.append(
          subject(
            "contrastive \(distance) \(linear)", positives: false, negatives: false,
            try ContrastiveLoss(distance: distance, linear: linear)))
      }
    }
    return all
  }

  private static func givenRows() throws -> [EmbeddingSubject] {
    var all = [pairs("cosine embedding", try CosineEmbeddingLoss())]
    for distance in EmbeddingDistance.allCases {
      for linear in [false, true] {
        all.append(pairs("pairs \(distance) \(linear)", try ContrastiveLoss(distance: distance, linear: linear)))
      }
      for (swap, smooth, squared) in [(false, false, false), (true, true, false), (true, false, true)] {
        all.append(
          triplets(
            "triplets \(distance) \(swap) \(smooth) \(squared)",
            try TripletLoss(distance: distance, swap: swap, smooth: smooth, squared: squared)))
      }
    }
    return all
  }

  private static func severalInputs() throws -> [EmbeddingSubject] {
    func images(
      _ name: String, usesLengths: Bool = false, rounding: Float = 1e-6, costsAlone: Bool = false,
      _ loss: some ImageTextLoss
    ) -> EmbeddingSubject {
      EmbeddingSubject(
        testDescription: name, names: [("images", "imageGradient"), ("texts", "textGradient")], labelsName: nil,
        usesLengths: usesLengths, rounding: rounding, costsAlone: costsAlone, evaluate: matched(loss))
    }
    func queries(_ name: String, _ loss: InfoNCELoss) -> EmbeddingSubject {
      EmbeddingSubject(
        testDescription: name, names: [("queries", "queryGradient"), ("keys", "keyGradient")], labelsName: nil,
        evaluate: keys(loss))
    }
    func anchors(_ name: String, decays: Bool = false, _ loss: NPairsLoss) -> EmbeddingSubject {
      EmbeddingSubject(
        testDescription: name, names: [("anchors", "anchorGradient"), ("positives", "positiveGradient")],
        usesLengths: decays, costsAlone: decays, evaluate: nPairs(loss))
    }
    func classes(_ name: String, _ loss: some ClassCenterLoss) -> EmbeddingSubject {
      EmbeddingSubject(
        testDescription: name, names: [("embeddings", "gradient"), ("classCenters", "classCenterGradient")],
        rounding: 1e-5, evaluate: centers(loss))
    }
    return [
      images("CLIP", try CLIPLoss()),
      images("CLIP, not normalised", rounding: 1e-3, try CLIPLoss(normalizes: false)),
      images("CLIP, sharp", try CLIPLoss(temperature: 0.02)),
      images("SigLIP", costsAlone: true, try SigLIPLoss()),
      images("SigLIP, not normalised", usesLengths: true, costsAlone: true, try SigLIPLoss(normalizes: false)),
      queries("InfoNCE", try InfoNCELoss()), queries("InfoNCE, not normalised", try InfoNCELoss(normalizes: false)),
      queries("InfoNCE, sharp", try InfoNCELoss(temperature: 0.02)), anchors("n-pairs", try NPairsLoss()),
      anchors("n-pairs with decay", decays: true, try NPairsLoss(regularization: 0.5)),
      classes("ArcFace", try ArcFaceLoss()), classes("CosFace", try CosFaceLoss()),
    ]
  }
}
