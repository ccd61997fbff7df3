import BatchLoss
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
  }
}
