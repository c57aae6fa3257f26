//! Torchvision's names of a ResNet's tensors, and those of an encoder that wraps its children in an `nn.Sequential`.

/// The children of torchvision's class that have tensors, and their index in the sequence.
const CHILDREN: [(&str, &str); 6] = [
    ("conv1", "resnet.0"),
    ("bn1", "resnet.1"),
    ("layer1", "resnet.4"),
    ("layer2", "resnet.5"),
    ("layer3", "resnet.6"),
    ("layer4", "resnet.7"),
];

/// `layer1.0.conv1.weight` as `resnet.4.0.conv1.weight`; `None` for a name that is not torchvision's.
pub fn to_encoder_name(name: &str) -> Option<String> {
    renamed(name, CHILDREN)
}

/// `resnet.4.0.conv1.weight` as `layer1.0.conv1.weight`; `None` for another name.
pub fn from_encoder_name(name: &str) -> Option<String> {
    renamed(name, CHILDREN.map(|(child, place)| (place, child)))
}

fn renamed(name: &str, names: [(&str, &str); 6]) -> Option<String> {
    names.into_iter().find_map(|(from, to)| {
        let rest = name.strip_prefix(from)?;
        rest.starts_with('.').then(|| format!("{to}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Resnet;
    use super::*;

    #[test]
    fn names_round_trip() {
        for tensor in Resnet::standard(50).unwrap().tensors() {
            let there = to_encoder_name(&tensor.name).unwrap();
            assert!(there.starts_with("resnet."), "{there}");
            assert_eq!(from_encoder_name(&there), Some(tensor.name));
        }
        assert_eq!(to_encoder_name("layer2.0.downsample.1.bias").as_deref(), Some("resnet.5.0.downsample.1.bias"));
        for other in ["fc.weight", "conv10.weight", "resnet.2.weight", "resnet.40.weight", "linear.bias"] {
            assert_eq!((to_encoder_name(other), from_encoder_name(other)), (None, None));
        }
    }
}
