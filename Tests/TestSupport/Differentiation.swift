import Glibc

/// The widest numbers that there are: the yardstick for `Double`.
#if arch(x86_64)
  package typealias Wide = Float80
#else
  package typealias Wide = Double
#endif

/// A number of a formula that remembers how it came about, so that a cost can be differentiated by its inputs.
///
/// This is what losses are held against: their definitions, evaluated in `Wide`, and gradients by the chain rule alone
/// (reverse mode; Griewank and Walther, Evaluating Derivatives, SIAM 2008, chapter 3).
package struct Variable {
  package let value: Wide
  fileprivate let index: Int
  fileprivate unowned(unsafe) let tape: Tape
}

/// The steps of a formula, in order.
package final class Tape {
  /// Where the operands of each step begin.
  private var starts: [Int] = []
  private var operands: [Int32] = []
  private var slopes: [Wide] = []

  package init() {}

  /// An input.
  package func variable(_ value: Wide) -> Variable { record(value) { _ in } }

  /// A step: `operands` names each operand with the derivative of the step by it.
  fileprivate func record(
    _ value: Wide, _ operands: ((_ operand: Variable, _ slope: Wide) -> Void) -> Void
  ) -> Variable {
    let variable = Variable(value: value, index: starts.count, tape: self)
    starts.append(self.operands.count)
    operands { operand, slope in
      self.operands.append(Int32(operand.index))
      self.slopes.append(slope)
    }
    return variable
  }

  /// The derivatives of `cost` by each of `inputs`.
  package func derivatives(of cost: Variable, by inputs: [Variable]) -> [Wide] {
    var adjoints = [Wide](repeating: 0, count: starts.count)
    adjoints[cost.index] = 1
    for step in stride(from: cost.index, through: 0, by: -1) where adjoints[step] != 0 {
      let end = step + 1 < starts.count ? starts[step + 1] : operands.count
      for position in starts[step]..<end {
        adjoints[Int(operands[position])] += adjoints[step] * slopes[position]
      }
    }
    return inputs.map { adjoints[$0.index] }
  }
}

// MARK: - Arithmetic

extension Variable {
  fileprivate func step(_ value: Wide, _ slope: Wide) -> Variable { tape.record(value) { $0(self, slope) } }

  package static func + (x: Variable, y: Variable) -> Variable {
    x.tape.record(x.value + y.value) {
      $0(x, 1)
      $0(y, 1)
    }
  }

  package static func - (x: Variable, y: Variable) -> Variable {
    x.tape.record(x.value - y.value) {
      $0(x, 1)
      $0(y, -1)
    }
  }

  package static func * (x: Variable, y: Variable) -> Variable {
    x.tape.record(x.value * y.value) {
      $0(x, y.value)
      $0(y, x.value)
    }
  }

  package static func / (x: Variable, y: Variable) -> Variable {
    x.tape.record(x.value / y.value) {
      $0(x, 1 / y.value)
      $0(y, -x.value / (y.value * y.value))
    }
  }

  package static func + (x: Variable, y: Wide) -> Variable { x.step(x.value + y, 1) }
  package static func - (x: Variable, y: Wide) -> Variable { x.step(x.value - y, 1) }
  package static func - (x: Wide, y: Variable) -> Variable { y.step(x - y.value, -1) }
  package static func * (x: Wide, y: Variable) -> Variable { y.step(x * y.value, x) }
  package static func / (x: Variable, y: Wide) -> Variable { x.step(x.value / y, 1 / y) }
  package static prefix func - (x: Variable) -> Variable { x.step(-x.value, -1) }

  /// |x|, with slope 0 at 0.
  package var magnitude: Variable { step(abs(value), value > 0 ? 1 : value < 0 ? -1 : 0) }

  /// max(0, x), with slope 0 at 0.
  package var positivePart: Variable { value > 0 ? step(value, 1) : step(0, 0) }

  package var squared: Variable { step(value * value, 2 * value) }

  /// √x, with slope 0 at 0.
  package var squareRoot: Variable {
    let root = value.squareRoot()
    return step(root, root > 0 ? 1 / (2 * root) : 0)
  }
}

// MARK: - Functions

package func exp(_ x: Variable) -> Variable {
  let value = Glibc.exp(x.value)
  return x.step(value, value)
}

package func log(_ x: Variable) -> Variable { x.step(Glibc.log(x.value), 1 / x.value) }

package func tanh(_ x: Variable) -> Variable {
  let value = Glibc.tanh(x.value)
  return x.step(value, 1 - value * value)
}

/// σ(x) = 1/(1 + e⁻ˣ)
package func sigmoid(_ x: Variable) -> Variable {
  let value = sigmoid(x.value)
  return x.step(value, value * sigmoid(-x.value))
}

/// log(1 + eˣ)
package func softplus(_ x: Variable) -> Variable {
  x.step(max(x.value, 0) + Glibc.log1p(Glibc.exp(-abs(x.value))), sigmoid(x.value))
}

private func sigmoid(_ x: Wide) -> Wide {
  x < 0 ? Glibc.exp(x) / (1 + Glibc.exp(x)) : 1 / (1 + Glibc.exp(-x))
}

/// log cosh x
package func logCosh(_ x: Variable) -> Variable {
  // cosh x − 1 = 2·sinh²(x/2), so that small arguments keep their digits.
  let half = Glibc.sinh(x.value / 2)
  let value =
    abs(x.value) < 1
    ? Glibc.log1p(2 * half * half) : abs(x.value) + Glibc.log1p(Glibc.exp(-2 * abs(x.value))) - Glibc.log(Wide(2))
  return x.step(value, Glibc.tanh(x.value))
}

// MARK: - Sums

/// Σ x
package func sum(_ terms: [Variable]) -> Variable {
  terms[0].tape.record(terms.reduce(0) { $0 + $1.value }) { operand in
    for term in terms { operand(term, 1) }
  }
}

/// Σ xᵢ·yᵢ
package func dot(_ x: [Variable], _ y: [Variable]) -> Variable {
  var value: Wide = 0
  for index in x.indices { value += x[index].value * y[index].value }
  return x[0].tape.record(value) { operand in
    for index in x.indices {
      operand(x[index], y[index].value)
      operand(y[index], x[index].value)
    }
  }
}

/// log Σ e^x
package func logSumExp(_ terms: [Variable]) -> Variable {
  let largest = terms.reduce(-Wide.infinity) { max($0, $1.value) }
  let shares = terms.map { Glibc.exp($0.value - largest) }
  let total = shares.reduce(0, +)
  return terms[0].tape.record(largest + Glibc.log(total)) { operand in
    for (term, share) in zip(terms, shares) { operand(term, share / total) }
  }
}

/// (Σ x)/count
package func mean(_ terms: [Variable]) -> Variable { sum(terms) / Wide(terms.count) }
