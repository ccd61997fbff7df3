// The losses on similarities by their formulas, in plain loops over Double.

struct Similarities {
  let columns: Int
  let normalizes: Bool

  private func rows(_ x: [Double]) -> [[Double]] {
    stride(from: 0, to: x.count, by: columns).map { start in
      let row = Array(x[start..<start + columns])
      let norm = row.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return normalizes ? row.map { norm > 0 ? $0 / norm : 0 } : row
    }
  }

  func matrix(_ x: [Double], _ y: [Double]) -> [[Double]] {
    let others = rows(y)
    return rows(x).map { row in others.map { zip(row, $0).reduce(0) { $0 + $1.0 * $1.1 } } }
  }
}

func logSumExp(_ values: [Double]) -> Double {
  guard let largest = values.max(), largest > -.infinity else { return -.infinity }
  return largest + _log(values.reduce(0) { $0 + _exp($1 - largest) })
}

func softplus(_ x: Double) -> Double { max(x, 0) + _log1p(_exp(-x.magnitude)) }

/// The losses of rows: s[i][j] are similarities, a is the scale.
enum ReferenceLosses {
  static func infoNCE(_ s: [[Double]], _ a: Double) -> [Double] {
    s.indices.map { i in logSumExp(s[i].map { a * $0 }) - a * s[i][i] }
  }

  static func clip(_ s: [[Double]], _ a: Double) -> [Double] {
    s.indices.map { i in
      0.5 * (logSumExp(s[i].map { a * $0 }) + logSumExp(s.indices.map { a * s[$0][i] }) - 2 * a * s[i][i])
    }
  }

  static func sigLIP(_ s: [[Double]], _ a: Double, _ b: Double) -> [Double] {
    s.indices.map { i in
      s.indices.reduce(0) { $0 + softplus((i == $1 ? -1 : 1) * (a * s[i][$1] + b)) }
    }
  }

  static func ntXent(_ s: [[Double]], _ a: Double, _ labels: [Int]) -> [Double] {
    s.indices.map { i in
      let others = logSumExp(s.indices.filter { labels[$0] != labels[i] }.map { a * s[i][$0] })
      return s.indices.filter { $0 != i && labels[$0] == labels[i] }
        .reduce(0) { $0 + softplus(others - a * s[i][$1]) }
    }
  }

  static func supCon(_ s: [[Double]], _ a: Double, _ labels: [Int]) -> [Double] {
    s.indices.map { i in
      let positives = s.indices.filter { $0 != i && labels[$0] == labels[i] }
      guard !positives.isEmpty else { return 0 }
      let mean = positives.reduce(0) { $0 + a * s[i][$1] } / Double(positives.count)
      return logSumExp(s.indices.filter { $0 != i }.map { a * s[i][$0] }) - mean
    }
  }

  static func nPairs(_ s: [[Double]], _ labels: [Int]) -> [Double] {
    s.indices.map { i in
      let same = s.indices.filter { labels[$0] == labels[i] }
      return logSumExp(s[i]) - same.reduce(0) { $0 + s[i][$1] } / Double(same.count)
    }
  }

  static func multiSimilarity(
    _ s: [[Double]], alpha: Double, beta: Double, base: Double, _ labels: [Int]
  ) -> [Double] {
    guard s.count > 1 else { return s.map { _ in 0 } }
    return s.indices.map { i in
      let near = s.indices.filter { $0 != i && labels[$0] == labels[i] }.map { -alpha * (s[i][$0] - base) }
      let far = s.indices.filter { labels[$0] != labels[i] }.map { beta * (s[i][$0] - base) }
      return logSumExp([0] + near) / alpha + logSumExp([0] + far) / beta
    }
  }

  static func marginSoftmax(
    _ s: [[Double]], scale: Double, _ labels: [Int], _ margin: (Double) -> Double
  ) -> [Double] {
    s.indices.map { i in
      var logits = s[i].map { scale * $0 }
      logits[labels[i]] = scale * margin(s[i][labels[i]])
      return logSumExp(logits) - logits[labels[i]]
    }
  }
}
