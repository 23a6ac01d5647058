"""From predictions to numbers: metrics, their intervals, and the stage that writes them."""
