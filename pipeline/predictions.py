def read_predictions(folder):
    return None
