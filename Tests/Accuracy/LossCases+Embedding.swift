import BatchLoss
import BatchLossCatalog
import BatchLossTestSupport

private typealias Definition = EmbeddingDefinition

extension LossCase {
  /// Scales are those of distances: 1 is about the default margin.
  private static let embeddingSizes = sizes([(6, 2), (70, 33), (200, 16), (20, 300)], scales: [0.5, 1, 2])

  static let embedding =
    (pairs + distances).map { $0.within(gradient: 5e-7) }
    // Inner products of float32 rows are off by several roundings, which temperatures and scales multiply.
    + (cosines + similarities + matched + centres).map { $0.within(gradient: 2e-6) }

  private static func components(_ size: Size, _ random: inout RandomSource) -> Double {
    size.scale * random.normal() / Double(2 * size.columns).squareRoot()
  }

  // MARK: Given pairs and triplets

  private static func pairs(
    _ loss: String, _ variant: String = "", _ options: [OptionName: Double] = [:],
    words: [OptionName: String] = [:],
    definition: @escaping @Sendable (_ x: [Variable], _ y: [Variable], _ similar: Bool) -> Variable
  ) -> LossCase {
    LossCase(
      loss, variant, options, words: words, sizes: embeddingSizes,
      inputs: { size, random in
        var inputs = LossInputs()
        for role in [Role.first, .second] {
          inputs.add(role, size.rows, size.columns, differentiable: true) { _ in components(size, &random) }
        }
        inputs.add(.same, shape: [size.rows], (0..<size.rows).map { _ in random.index(below: 2) })
        return inputs
      },
      cost: { batch in
        mean(
          batch[.first].indices.map { row in
            definition(batch[.first][row], batch[.second][row], batch.integers(.same)[row] == 1)
          })
      })
  }

  private static let pairs: [LossCase] = [
    pairs("contrastive", "pairs") { x, y, similar in
      Definition.contrastive(Definition.distance(x, y), similar: similar, margin: 1)
    },
    pairs("contrastive", "pairs, linear", [.linear: 1, .positiveMargin: 0.25]) { x, y, similar in
      Definition.linearContrastive(Definition.distance(x, y), similar: similar, margin: 1, positiveMargin: 0.25)
    },
    LossCase(
      "triplet", "given", sizes: embeddingSizes,
      inputs: { size, random in
        var inputs = LossInputs()
        for role in [Role.anchors, .positives, .negatives] {
          inputs.add(role, size.rows, size.columns, differentiable: true) { _ in components(size, &random) }
        }
        return inputs
      },
      cost: { batch in
        mean(
          batch[.anchors].indices.map { row in
            let anchor = batch[.anchors][row]
            return Definition.triplet(
              Definition.distance(anchor, batch[.positives][row]),
              Definition.distance(anchor, batch[.negatives][row]), margin: 1)
          })
      }),
  ]

  private static let cosines: [LossCase] = [
    pairs("contrastive", "pairs, cosine", words: [.distance: "cosine"]) { x, y, similar in
      Definition.contrastive(1 - Definition.cosine(x, y), similar: similar, margin: 1)
    },
    pairs("cosine-embedding") { x, y, similar in
      let c = Definition.cosine(x, y)
      return similar ? 1 - c : c.positivePart
    },
  ]

  // MARK: A labelled batch

  /// Labels of classes of three rows or more.
  private static func labelled(
    _ loss: String, _ variant: String = "", _ options: [OptionName: Double] = [:],
    words: [OptionName: String] = [:], sizes: [Size] = embeddingSizes,
    cost: @escaping @Sendable (_ rows: [[Variable]], _ labels: [Int]) -> Variable
  ) -> LossCase {
    LossCase(
      loss, variant, options, words: words, sizes: sizes,
      inputs: { size, random in
        var inputs = LossInputs()
        inputs.add(.embeddings, size.rows, size.columns, differentiable: true) { _ in components(size, &random) }
        inputs.add(.labels, shape: [size.rows], (0..<size.rows).map { $0 % max(2, size.rows / 5) })
        return inputs
      },
      cost: { cost($0[.embeddings], $0.integers(.labels)) })
  }

  /// The other rows of the label of row i, and the rows of other labels.
  private static func relations(_ labels: [Int], _ i: Int) -> (positives: [Int], negatives: [Int]) {
    (
      labels.indices.filter { $0 != i && labels[$0] == labels[i] },
      labels.indices.filter { labels[$0] != labels[i] }
    )
  }

  private static func mined(
    _ mining: String, sizes: [Size] = embeddingSizes,
    _ mine: @escaping @Sendable (_ d: [Variable], _ positives: [Int], _ negatives: [Int]) -> [(Int, Int)]
  ) -> LossCase {
    labelled("triplet", mining, words: [.mining: mining], sizes: sizes) { rows, labels in
      mean(
        rows.indices.flatMap { i in
          let d = rows.indices.map { Definition.distance(rows[i], rows[$0]) }
          let (positives, negatives) = relations(labels, i)
          return mine(d, positives, negatives).map { Definition.triplet(d[$0.0], d[$0.1], margin: 1) }
        })
    }
  }

  private static let distances: [LossCase] = [
    labelled("contrastive", "labelled batch") { rows, labels in
      mean(
        rows.indices.flatMap { i in
          (0..<i).map { j in
            Definition.contrastive(
              Definition.distance(rows[i], rows[j]), similar: labels[i] == labels[j], margin: 1)
          }
        })
    },
    mined("batch-hard") { d, positives, negatives in
      [(positives.max { d[$0].value < d[$1].value }!, negatives.min { d[$0].value < d[$1].value }!)]
    },
    mined("batch-semi-hard") { d, positives, negatives in
      positives.map { p in
        let farther = negatives.filter { d[$0].value > d[p].value }
        return (
          p,
          farther.min { d[$0].value < d[$1].value } ?? negatives.max { d[$0].value < d[$1].value }!
        )
      }
    },
    mined("batch-all") { _, positives, negatives in positives.flatMap { p in negatives.map { (p, $0) } } },
  ]

  private static let similarities: [LossCase] = [
    labelled("info-nce", "labelled batch, τ = 0.125", [.temperature: 0.125]) { rows, labels in
      let s = unitSimilarities(rows, rows, scale: 8)
      return mean(
        s.indices.flatMap { i in
          let (positives, negatives) = relations(labels, i)
          let others = logSumExp(negatives.map { s[i][$0] })
          return positives.map { softplus(others - s[i][$0]) }
        })
    },
    labelled("supervised-contrastive", "τ = 0.125", [.temperature: 0.125]) { rows, labels in
      let s = unitSimilarities(rows, rows, scale: 8)
      return mean(
        s.indices.map { i in
          let (positives, negatives) = relations(labels, i)
          return logSumExp((positives + negatives).map { s[i][$0] }) - mean(positives.map { s[i][$0] })
        })
    },
    labelled("multi-similarity") { rows, labels in
      let s = unitSimilarities(rows, rows, scale: 1)
      return mean(
        s.indices.map { i in
          let (positives, negatives) = relations(labels, i)
          let near = logSumExp(positives.map { -2 * (s[i][$0] - 0.5) } + [0 * s[i][i]]) / 2
          return near + logSumExp(negatives.map { 50 * (s[i][$0] - 0.5) } + [0 * s[i][i]]) / 50
        })
    },
  ]

  /// Of rows divided by their length.
  private static func unitSimilarities(_ x: [[Variable]], _ y: [[Variable]], scale: Wide) -> [[Variable]] {
    Definition.similarities(x.map(Definition.unit), y.map(Definition.unit)).map { $0.map { scale * $0 } }
  }

  // MARK: Rows that belong to each other

  private static func matched(
    _ loss: String, _ variant: String = "", _ options: [OptionName: Double] = [:],
    roles: (Role, Role) = (.queries, .keys),
    cost: @escaping @Sendable (_ x: [[Variable]], _ y: [[Variable]]) -> Variable
  ) -> LossCase {
    LossCase(
      loss, variant, options, sizes: embeddingSizes,
      inputs: { size, random in
        var inputs = LossInputs()
        for role in [roles.0, roles.1] {
          inputs.add(role, size.rows, size.columns, differentiable: true) { _ in components(size, &random) }
        }
        return inputs
      },
      cost: { cost($0[roles.0], $0[roles.1]) })
  }

  private static let matched: [LossCase] = [
    matched("info-nce", "τ = 0.125", [.temperature: 0.125]) { x, y in
      let s = unitSimilarities(x, y, scale: 8)
      return mean(s.indices.map { Definition.contrast(s[$0], target: $0) })
    },
    matched("clip", "τ = 0.125", [.temperature: 0.125]) { x, y in
      let s = unitSimilarities(x, y, scale: 8)
      return mean(
        s.indices.map { i in
          (Definition.contrast(s[i], target: i) + Definition.contrast(s.map { $0[i] }, target: i)) / 2
        })
    },
    matched("siglip") { x, y in
      let s = unitSimilarities(x, y, scale: 10)
      return sum(
        s.indices.flatMap { i in s.indices.map { j in softplus(i == j ? 10 - s[i][j] : s[i][j] - 10) } }
      ) / Wide(s.count)
    },
    matched("n-pairs", "regularization 0.25", [.regularization: 0.25], roles: (.anchors, .positives)) { x, y in
      let s = Definition.similarities(x, y)
      return mean(
        s.indices.map { i in
          Definition.contrast(s[i], target: i) + 0.0625 * (dot(x[i], x[i]) + dot(y[i], y[i]))
        })
    },
  ]

  // MARK: Class centres

  private static func centres(
    _ loss: String, _ variant: String, _ options: [OptionName: Double],
    margin: @escaping @Sendable (Variable) -> Variable
  ) -> LossCase {
    LossCase(
      loss, variant, options, sizes: embeddingSizes,
      inputs: { size, random in
        let classes = max(2, size.rows / 3)
        var inputs = LossInputs()
        inputs.add(.embeddings, size.rows, size.columns, differentiable: true) { _ in components(size, &random) }
        inputs.add(.classCenters, classes, size.columns, differentiable: true) { _ in components(size, &random) }
        inputs.add(.labels, shape: [size.rows], (0..<size.rows).map { _ in random.index(below: classes) })
        return inputs
      },
      cost: { batch in
        let s = unitSimilarities(batch[.embeddings], batch[.classCenters], scale: 1)
        return mean(
          s.indices.map { i in
            let label = batch.integers(.labels)[i]
            let logits = s[i].enumerated().map { 16 * ($0 == label ? margin($1) : $1) }
            return Definition.contrast(logits, target: label)
          })
      })
  }

  private static let centres: [LossCase] = [
    centres("arc-face", "scale 16", [.scale: 16]) { Definition.angularMargin($0, 0.5) },
    centres("cos-face", "scale 16, margin 0.25", [.scale: 16, .margin: 0.25]) { $0 - 0.25 },
  ]
}

// MARK: - Sequences

extension LossCase {
  private static func ctc(_ batch: Int, _ time: Int, _ classes: Int, _ labels: Int) -> LossCase {
    LossCase(
      "ctc", "\(time) frames, \(labels) labels of \(classes)", sizes: sizes([(batch, classes)], scales: [1, 8]),
      inputs: { size, random in
        var inputs = LossInputs()
        inputs.add(.logits, batch * time, classes, shape: [batch, time, classes], differentiable: true) { _ in
          size.scale * random.normal()
        }
        inputs.add(
          .targets, shape: [batch, labels], (0..<batch * labels).map { _ in 1 + random.index(below: classes - 1) })
        return inputs
      },
      cost: { variables in
        let frames = variables[.logits].map { RowDefinition.logSoftmax($0) }
        return mean(
          (0..<batch).map { u in
            let target = Array(variables.integers(.targets)[u * labels..<(u + 1) * labels])
            let losses = SequenceDefinition.ctc(
              logProbabilities: Array(frames[u * time..<(u + 1) * time]), target: target, blank: 0)
            return losses / Wide(labels)
          })
      })
  }

  static let sequences: [LossCase] = [ctc(4, 12, 5, 3), ctc(3, 80, 32, 25), ctc(2, 300, 40, 100)]
}
