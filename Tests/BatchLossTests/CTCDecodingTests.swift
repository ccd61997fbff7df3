import BatchLoss
import Foundation
import Testing

// Best-path decoding against plain argmax and collapse, and the best alignment against all alignments.

@Suite struct CTCDecodingTests {
  @Test func bestPath() throws {
    // Classes: blank 1 1 blank 1 2 2.
    let classes = [0, 1, 1, 0, 1, 2, 2]
    let logits = classes.flatMap { best in (0..<3).map { Float($0 == best ? 2 : -1) } }
    let decoded = try CTCLoss().decodeBestPath(logits.matrix(columns: 3), batch: 1)
    #expect(decoded.map(\.labels) == [[1, 1, 2]] && decoded.map(\.frames) == [[1, 4, 5]])
    let lengths = [3]
    let short = try CTCLoss().decodeBestPath(logits.matrix(columns: 3), batch: 1, inputLengths: lengths.span)
    #expect(short[0].labels == [1])
    let blankLast = try CTCLoss(blank: 2).decodeBestPath(logits.matrix(columns: 3), batch: 1)
    #expect(blankLast[0].labels == [0, 1, 0, 1])
    #expect(try CTCLoss().decodeBestPath(logits.matrix(columns: 3), batch: 1).count == 1)
  }

  @Test func bestPathOfRandomBatches() throws {
    var generator = SplitMix(state: 1)
    for (classes, layout) in [
      (3, CTCLoss.Layout.batchMajor), (16, .timeMajor), (37, .batchMajor), (100, .timeMajor),
    ] {
      var sample = CTCSample.random(batch: 5, time: 40, classes: classes, labels: 2, using: &generator)
      // Ties: the lowest class wins; NaN never does.
      sample.logits = sample.logits.map { ($0 * 2).rounded() }
      sample.logits[3] = .nan
      let logits = (layout == .batchMajor ? sample.logits : sample.timeMajor).map { Float($0) }
      let frames = sample.inputLengths
      let decoded = try CTCLoss(layout: layout).decodeBestPath(
        logits.matrix(columns: classes), batch: 5, inputLengths: frames.span)
      for utterance in 0..<5 {
        let path = (0..<frames[utterance]).map { frame in
          let row = sample.row(utterance, frame).map { $0.isNaN ? -.infinity : $0 }
          return row.firstIndex(of: row.max()!)!
        }
        #expect(decoded[utterance].labels == collapse(path, blank: 0))
        #expect(decoded[utterance].frames.map { path[$0] } == decoded[utterance].labels)
      }
    }
  }

  @Test func bestAlignmentOfAll() throws {
    var generator = SplitMix(state: 2)
    for labels in [[], [1], [1, 2], [2, 2], [1, 2, 1]] {
      for frames in 1...6 {
        let sample = CTCSample(
          batch: 1, time: frames, classes: 3, logits: (0..<frames * 3).map { _ in generator.normal() },
          labels: [labels], inputLengths: [frames])
        let logits = sample.logits
        let target = labels
        let found = try CTCLoss().bestAlignments(
          logits.matrix(columns: 3), targets: CTCTargets(padded: target.span, batch: 1))[0]
        let rows = (0..<frames).map { logSoftmax(sample.row(0, $0)) }
        let scores = allPaths(frames: frames, classes: 3).filter { collapse($0, blank: 0) == labels }
          .map { path in (path, zip(path, rows).reduce(0) { $0 + $1.1[$1.0] }) }
        guard let best = scores.max(by: { $0.1 < $1.1 }) else {
          #expect(found == nil)
          continue
        }
        let alignment = try #require(found)
        #expect(alignment.classes == best.0)
        #expect(abs(alignment.logProbability - best.1) < 1e-12)
        #expect(alignment.ranges.count == labels.count)
        for (range, label) in zip(alignment.ranges, labels) {
          #expect(range.allSatisfy { alignment.classes[$0] == label } && !range.isEmpty)
        }
      }
    }
  }

  /// Of alignments that tie, the one whose target ends first.
  @Test func tiedAlignments() throws {
    for (frames, labels, expected) in [
      (2, [1], [1, 0]), (5, [1], [1, 0, 0, 0, 0]), (4, [1, 2], [1, 2, 0, 0]), (5, [2, 2], [2, 0, 2, 0, 0]),
      (3, [], [0, 0, 0]),
    ] {
      let uniform = [Float](repeating: 0, count: frames * 3)
      let found = try CTCLoss().bestAlignments(
        uniform.matrix(columns: 3), targets: CTCTargets(padded: labels.span, batch: 1))[0]
      let alignment = try #require(found)
      #expect(alignment.classes == expected)
      #expect(abs(alignment.logProbability + Double(frames) * log(3)) < 1e-14)
    }
  }

  @Test func alignmentsOfOtherInputs() throws {
    var generator = SplitMix(state: 6)
    let sample = CTCSample.random(batch: 4, time: 30, classes: 7, labels: 6, using: &generator)
    func align(_ logits: [Double], _ layout: CTCLoss.Layout, _ input: CTCLoss.Input) throws -> [CTCAlignment?] {
      let (labels, lengths, frames) = (sample.padded, sample.targetLengths, sample.inputLengths)
      return try CTCLoss(layout: layout, input: input).bestAlignments(
        logits.matrix(columns: 7), targets: CTCTargets(padded: labels.span, batch: 4, lengths: lengths.span),
        inputLengths: frames.span)
    }
    let expected = try align(sample.logits, .batchMajor, .logits)
    #expect(try align(sample.timeMajor, .timeMajor, .logits) == expected)
    var normalized = sample
    normalized.logits = (0..<120).flatMap { logSoftmax(sample.row($0 / 30, $0 % 30)) }
    for (rows, layout) in [(normalized.logits, CTCLoss.Layout.batchMajor), (normalized.timeMajor, .timeMajor)] {
      for (found, alignment) in zip(try align(rows, layout, .logProbabilities), expected) {
        #expect(found?.classes == alignment?.classes && found?.ranges == alignment?.ranges)
        #expect(abs((found?.logProbability ?? 0) - (alignment?.logProbability ?? 0)) < 1e-11)
      }
    }
    // Log-probabilities count as they are, also where they do not add up to 1.
    let shifted = try align(normalized.logits.map { $0 + 1 }, .batchMajor, .logProbabilities)
    for (utterance, alignment) in expected.enumerated() {
      let score = (alignment?.logProbability ?? 0) + Double(sample.inputLengths[utterance])
      #expect(abs((shifted[utterance]?.logProbability ?? 0) - score) < 1e-11)
    }
  }

  @Test func longAlignments() throws {
    var generator = SplitMix(state: 3)
    let sample = CTCSample.random(
      batch: 3, time: 300, classes: 20, labels: 45, deviation: 30, using: &generator)
    let logits = sample.logits.map { Float($0) }
    let (labels, lengths, frames) = (sample.padded, sample.targetLengths, sample.inputLengths)
    let targets = CTCTargets(padded: labels.span, batch: 3, lengths: lengths.span)
    let engine = Engine(configuration: try .init(workerCount: 2))
    let found = try CTCLoss().bestAlignments(
      logits.matrix(columns: 20), targets: targets, inputLengths: frames.span, engine: engine)
    for utterance in 0..<3 {
      let alignment = try #require(found[utterance])
      #expect(collapse(alignment.classes, blank: 0) == sample.labels[utterance])
      let rows = (0..<frames[utterance]).map { logSoftmax(sample.row(utterance, $0)) }
      let score = zip(alignment.classes, rows).reduce(0) { $0 + $1.1[$1.0] }
      #expect(abs(alignment.logProbability - score) < 1e-5 * abs(score) + 1e-9)
      #expect(alignment.logProbability <= 1e-6 - sample.reference(utterance).loss)
    }
  }

  @Test func noAlignment() throws {
    let logits: [Float] = [0, 0, 0, 0, -.infinity, 0]
    let labels = [1, 1]
    let alone = try CTCLoss().bestAlignments(
      logits.matrix(columns: 3), targets: CTCTargets(padded: labels.span, batch: 1))
    #expect(alone == [nil])
    let impossible: [Float] = [0, -.infinity, 0, 0, -.infinity, 0]
    let one = [1]
    let found = try CTCLoss().bestAlignments(
      impossible.matrix(columns: 3), targets: CTCTargets(padded: one.span, batch: 1))
    #expect(found == [nil])
    // NaN that belongs to every alignment, and in a class that none has: read in logits, not in log-probabilities.
    for (column, input, isNil) in [
      (0, CTCLoss.Input.logits, true), (0, .logProbabilities, true), (2, .logits, true),
      (2, .logProbabilities, false),
    ] {
      var rows: [Float] = [-1, -1, -1, -1, -1, -1, -1, -1, -1]
      for frame in 0..<3 { rows[3 * frame + column] = .nan }
      // One alignment: 1, blank, 1.
      let twice = [1, 1]
      let alignment = try CTCLoss(input: input).bestAlignments(
        rows.matrix(columns: 3), targets: CTCTargets(padded: twice.span, batch: 1))[0]
      #expect((alignment == nil) == isNil, "class \(column) of \(input)")
    }
  }
}
