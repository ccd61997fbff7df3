import BatchLoss
import Testing

// Every mistake in the arguments of CTC: its code, the utterance it names, and that no output was written.

@Suite struct CTCValidationTests {
  struct Call {
    var rows = 6
    var columns = 4
    var labels: [Int32] = [1, 2, 3, 1]
    var batch = 2
    var concatenates = false
    var targetLengths: [Int]? = [2, 2]
    var inputLengths: [Int]? = [3, 3]
    var blank = 0
    var reduction = Reduction.mean
    var denominator: Double?
    var losses = 2
    var weights: Int?
    var gradientColumns = 4
  }

  private func expect(
    _ code: BatchLossError.Code, _ parameter: String, naming text: String = "", _ call: Call,
    _ location: SourceLocation = #_sourceLocation
  ) {
    let logits = [Float](repeating: 0.5, count: call.rows * call.columns)
    var gradient = [Float](repeating: 7, count: call.rows * call.gradientColumns)
    var losses = [Float](repeating: 7, count: call.losses)
    let weights = [Float](repeating: 1, count: call.weights ?? 0)
    let none: [Int] = []
    do throws(BatchLossError) {
      let loss = try CTCLoss(blank: call.blank)
      let lengths = call.targetLengths ?? none
      let frames = call.inputLengths ?? none
      let targets =
        call.concatenates
        ? CTCTargets(concatenated: call.labels.span, lengths: lengths.span)
        : CTCTargets(
          padded: call.labels.span, batch: call.batch, lengths: call.targetLengths == nil ? nil : lengths.span)
      try loss.evaluate(
        logits.matrix(columns: call.columns), targets: targets,
        inputLengths: call.inputLengths == nil ? nil : frames.span,
        weights: call.weights == nil ? nil : weights.span, reduction: call.reduction,
        denominator: call.denominator, losses: losses.mutableSpan,
        gradient: gradient.mutableMatrix(columns: call.gradientColumns))
      Issue.record("no error", sourceLocation: location)
    } catch {
      #expect(error.code == code && error.parameter == parameter, "\(error)", sourceLocation: location)
      #expect(text.isEmpty || error.description.contains(text), "\(error)", sourceLocation: location)
    }
    #expect(gradient.allSatisfy { $0 == 7 } && losses.allSatisfy { $0 == 7 }, sourceLocation: location)
  }

  @Test func labels() {
    expect(.invalidLabel, "targets", naming: "label 1 of utterance 1", Call(labels: [1, 2, 3, 0]))
    expect(.invalidLabel, "targets", naming: "got 4", Call(labels: [1, 2, 3, 4]))
    expect(.invalidLabel, "targets", naming: "got -1", Call(labels: [1, -1, 3, 1]))
    expect(.invalidLabel, "targets", naming: "blank 3", Call(blank: 3))
  }

  @Test func lengths() {
    expect(.invalidLength, "target lengths", naming: "utterance 1", Call(targetLengths: [2, 3]))
    expect(.invalidLength, "target lengths", naming: "utterance 0", Call(targetLengths: [-1, 2]))
    expect(.invalidShape, "target lengths", Call(targetLengths: [2]))
    expect(.invalidLength, "inputLengths", naming: "utterance 1", Call(inputLengths: [3, 4]))
    expect(.invalidLength, "inputLengths", naming: "utterance 0", Call(inputLengths: [-1, 3]))
    expect(.invalidShape, "inputLengths", Call(inputLengths: [3]))
    expect(
      .invalidLength, "target lengths", naming: "utterance 1", Call(concatenates: true, targetLengths: [2, 3]))
    expect(.invalidShape, "target lengths", Call(concatenates: true, targetLengths: [2, 1]))
  }

  @Test func shapes() {
    expect(.invalidShape, "logits", Call(rows: 7))
    expect(.invalidShape, "logits", Call(labels: [], batch: 0, targetLengths: nil, inputLengths: nil, losses: 0))
    expect(.invalidShape, "targets", Call(labels: [1, 2, 3]))
    expect(
      .invalidShape, "targets",
      Call(rows: 0, labels: [1], batch: 0, targetLengths: nil, inputLengths: nil, losses: 0))
    expect(.invalidShape, "targets", Call(batch: -1, targetLengths: nil, inputLengths: nil, losses: 0))
    expect(.invalidShape, "losses", Call(losses: 3))
    expect(.invalidShape, "weights", Call(weights: 6))
    expect(.invalidShape, "gradient", Call(gradientColumns: 3))
    expect(.invalidParameter, "blank", Call(blank: 4))
    expect(.invalidParameter, "blank", Call(blank: -1))
    expect(.invalidParameter, "denominator", Call(denominator: 0))
    expect(.unsupportedCombination, "reduction", Call(reduction: .meanOverActive))
  }

  @Test func noClasses() {
    let logits: [Float] = []
    let labels: [Int] = []
    expectError(.invalidParameter, "blank") {
      let view = try MatrixView(logits.span, rows: 2, columns: 0)
      _ = try CTCLoss().evaluate(view, targets: CTCTargets(padded: labels.span, batch: 2))
    }
  }

  @Test func decoding() {
    let logits = [Float](repeating: 0.5, count: 24)
    let labels = [1, 2, 3, 1]
    let (tooLong, negative, tooFew) = ([3, 4], [-1, 3], [3])
    for (lengths, code, text) in [
      (tooLong, BatchLossError.Code.invalidLength, "utterance 1"), (negative, .invalidLength, "utterance 0"),
      (tooFew, .invalidShape, "2"),
    ] {
      expectError(code, "inputLengths", mentioning: text) {
        _ = try CTCLoss().decodeBestPath(logits.matrix(columns: 4), batch: 2, inputLengths: lengths.span)
      }
      expectError(code, "inputLengths", mentioning: text) {
        _ = try CTCLoss().bestAlignments(
          logits.matrix(columns: 4), targets: CTCTargets(padded: labels.span, batch: 2), inputLengths: lengths.span)
      }
    }
    expectError(.invalidParameter, "blank") {
      _ = try CTCLoss(blank: 4).decodeBestPath(logits.matrix(columns: 4), batch: 2)
    }
    expectError(.invalidLabel, "targets", mentioning: "utterance 1") {
      _ = try CTCLoss(blank: 3).bestAlignments(
        logits.matrix(columns: 4), targets: CTCTargets(padded: labels.span, batch: 2))
    }
  }

  @Test func requiredFrames() throws {
    let (labels, lengths, blankless): ([UInt64], [Int], [Int]) = (
      [1, 1, 1, 2, 1, 9, .max, .max, 9], [3, 2, 3], []
    )
    #expect(try CTCTargets(padded: labels.span, batch: 3).requiredFrames() == [5, 3, 4])
    #expect(try CTCTargets(padded: labels.span, batch: 3, lengths: lengths.span).requiredFrames() == [5, 2, 4])
    let other = [0, 4, 5]
    #expect(try CTCTargets(concatenated: labels.span, lengths: other.span).requiredFrames() == [0, 6, 6])
    #expect(try CTCTargets(padded: blankless.span, batch: 2).requiredFrames() == [0, 0])
    expectError(.invalidShape, "targets", mentioning: "-1") {
      _ = try CTCTargets(padded: labels.span, batch: -1).requiredFrames()
    }
    let wrong = [4, 2, 4]
    for isPadded in [false, true] {
      let error = #expect(throws: BatchLossError.self) {
        isPadded
          ? try CTCTargets(padded: labels.span, batch: 3, lengths: wrong.span).requiredFrames()
          : try CTCTargets(concatenated: labels.span, lengths: wrong.span).requiredFrames()
      }
      #expect(error?.code == .invalidLength)
    }
  }

  @Test func everyIntegerType() throws {
    let logits = (0..<12).map { Float($0 % 5) }
    func cost<Label: FixedWidthInteger & BitwiseCopyable>(_: Label.Type) throws -> Cost {
      let labels: [Label] = [1, 2]
      return try CTCLoss().evaluate(
        logits.matrix(columns: 4), targets: CTCTargets(padded: labels.span, batch: 1))
    }
    let expected = try cost(Int.self)
    #expect(try cost(Int8.self) == expected && cost(UInt8.self) == expected && cost(Int16.self) == expected)
    #expect(try cost(Int32.self) == expected && cost(Int64.self) == expected && cost(UInt64.self) == expected)
    let huge: [UInt64] = [.max]
    #expect(throws: BatchLossError.self) {
      try CTCLoss().evaluate(logits.matrix(columns: 4), targets: CTCTargets(padded: huge.span, batch: 1))
    }
  }
}
